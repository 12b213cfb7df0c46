// The same as a test of an application: run by `hardhat test --no-compile --network devnet`.
const assert = require('node:assert/strict')
const { readFileSync } = require('node:fs')
const hre = require('hardhat')

describe('a contract on a devnet', () => {
  for (const name of ['first', 'second', 'third']) {
    it(`counts, ${name} time`, async () => {
      const { abi, bytecode } = JSON.parse(readFileSync(process.env.PROBE_JSON))
      const factory = await hre.ethers.getContractFactory(abi, bytecode)
      const probe = await factory.deploy()
      await probe.waitForDeployment()
      assert.equal(await probe.count(), 0n)
      await (await probe.increment()).wait()
      assert.equal(await probe.count(), 1n)
    })
  }
})
