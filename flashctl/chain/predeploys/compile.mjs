// Compiles the Solidity sources of folders; prints the artifacts by folder as JSON, or writes them next to the sources.
//
//   node compile.mjs FOLDER... [--write]
//
// The npm package solc is looked up from FLASHCTL_NODE_MODULES, else from the working directory's node_modules.
// Bytecode carries no metadata hash and avoids PUSH0, so that it depends on source and compiler only and runs on every fork.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";

const modules = resolve(process.env.FLASHCTL_NODE_MODULES ?? "node_modules");
const solc = createRequire(join(modules, "resolve-from-here.js"))("solc");
const folders = process.argv.slice(2).filter((argument) => argument !== "--write");

function compile(folder) {
  const files = readdirSync(folder).filter((name) => name.endsWith(".sol")).sort();
  const input = {
    language: "Solidity",
    sources: Object.fromEntries(files.map((name) => [name, { content: readFileSync(join(folder, name), "utf8") }])),
    settings: {
      evmVersion: "paris",
      optimizer: { enabled: true, runs: 999999 },
      metadata: { bytecodeHash: "none", appendCBOR: false },
      outputSelection: {
        "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "evm.methodIdentifiers", "storageLayout"] },
      },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const problems = (output.errors ?? []).filter((problem) => problem.severity === "error");
  if (problems.length > 0) {
    for (const problem of problems) process.stderr.write(problem.formattedMessage);
    process.exit(1);
  }
  return Object.fromEntries(files.map((file) => {
    const name = basename(file, ".sol");
    return [name, artifact(output.contracts[file][name])];
  }));
}

function artifact(contract) {
  return {
    solc: solc.version(),
    abi: contract.abi,
    selectors: contract.evm.methodIdentifiers,
    storageLayout: contract.storageLayout.storage.map(({ label, slot, offset, type }) => ({ label, slot, offset, type })),
    bytecode: "0x" + contract.evm.bytecode.object,
    deployedBytecode: "0x" + contract.evm.deployedBytecode.object,
  };
}

const compiled = Object.fromEntries(folders.map((folder) => [folder, compile(resolve(folder))]));
if (process.argv.includes("--write")) {
  for (const [folder, artifacts] of Object.entries(compiled)) {
    for (const [name, entry] of Object.entries(artifacts)) {
      writeFileSync(join(folder, `${name}.json`), JSON.stringify(entry, null, 1) + "\n");
    }
  }
} else {
  process.stdout.write(JSON.stringify(compiled));
}
