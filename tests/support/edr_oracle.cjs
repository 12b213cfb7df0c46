// Mines one block with EDR (op-revm inside Node.js) and prints what came of it as one JSON object.
// Input, on stdin: {fork, chainId, coinbase, timestamp, baseFee, alloc: [{address, balance, code, storage}], transactions, queries}
const edr = require("@nomicfoundation/edr");

const bytes = (hex) => Uint8Array.from(Buffer.from(hex.slice(2), "hex"));

function account({ address, balance, code, storage }) {
  return {
    address: bytes(address),
    balance: BigInt(balance),
    nonce: 0n,
    code: bytes(code),
    storage: Object.entries(storage).map(([slot, value]) => ({ index: BigInt(slot), value: BigInt(value) })),
  };
}

async function open(input) {
  const context = new edr.EdrContext();
  await context.registerProviderFactory(edr.OP_CHAIN_TYPE, edr.opProviderFactory());
  const config = {
    allowBlocksWithSameTimestamp: false,
    allowUnlimitedContractSize: false,
    bailOnCallFailure: false,
    bailOnTransactionFailure: false,
    chainId: BigInt(input.chainId),
    coinbase: bytes(input.coinbase),
    defaultTransactionGasLimit: 1000000n,
    genesisState: input.alloc.map(account),
    hardfork: input.fork,
    initialBaseFeePerGas: BigInt(input.baseFee),
    initialParentBeaconBlockRoot: new Uint8Array(32),
    minGasPrice: 0n,
    mining: { autoMine: false, blockGasLimit: 30000000n, memPool: { order: edr.MineOrdering.Fifo } },
    network: { genesisBlockGasLimit: 30000000n, genesisBlockTime: BigInt(input.timestamp) },
    networkId: BigInt(input.chainId),
    observability: {},
    ownedAccounts: [],
    precompileOverrides: [],
  };
  const silent = { enable: false, decodeConsoleLogInputsCallback: () => [], printLineCallback: () => {} };
  const ignore = { subscriptionCallback: () => {} };
  return context.createProvider(edr.OP_CHAIN_TYPE, config, silent, ignore, new edr.ContractDecoder());
}

async function main() {
  const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
  const provider = await open(input);
  const call = async (method, ...params) => {
    const reply = await provider.handleRequest(JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }));
    const data = typeof reply.data === "string" ? JSON.parse(reply.data) : reply.data;
    if (data.error) throw new Error(`${method}: ${data.error.message}`);
    return data.result;
  };
  const genesis = await call("eth_getBlockByNumber", "0x0", false);
  const hashes = [];
  for (const raw of input.transactions) hashes.push(await call("eth_sendRawTransaction", raw));
  await call("evm_mine");
  const block = await call("eth_getBlockByNumber", "latest", false);
  const receipts = [];
  for (const hash of hashes) receipts.push(await call("eth_getTransactionReceipt", hash));
  const balances = {};
  for (const address of input.queries) balances[address] = await call("eth_getBalance", address, "latest");
  console.log(JSON.stringify({ genesis, block, hashes, receipts, balances }));
  process.exit(0);
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
