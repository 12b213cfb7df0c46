// A hardhat script: deploy and call, back to back. Run by `hardhat run --no-compile --network devnet`.
const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const hre = require('hardhat')

async function main() {
  const { abi, bytecode } = JSON.parse(readFileSync(process.env.PROBE_JSON))
  const [signer] = await hre.ethers.getSigners()
  const factory = await hre.ethers.getContractFactory(abi, bytecode, signer)
  for (let round = 0; round < 3; round++) {
    const probe = await factory.deploy()
    await probe.waitForDeployment()
    assert.equal(await probe.count(), 0n)
    await (await probe.increment()).wait()
    assert.equal(await probe.count(), 1n)
  }
  const [fresh] = [hre.ethers.Wallet.createRandom().connect(hre.ethers.provider)]
  await (await signer.sendTransaction({ to: fresh.address, value: 10n ** 18n })).wait()
  await (await fresh.sendTransaction({ to: signer.address, value: 10n ** 17n })).wait()
  console.log(JSON.stringify({ done: true }))
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
