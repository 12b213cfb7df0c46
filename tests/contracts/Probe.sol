// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// One contract with one function per thing a node test needs to provoke: state, logs, reverts, halts, gas, environment.
contract Probe {
    uint256 public count;
    mapping(uint256 => uint256) public slots;

    event Counted(address indexed by, uint256 indexed value);
    event Note(bytes data);

    error Refused(uint256 code, string reason);

    receive() external payable {}

    function increment() external returns (uint256) {
        count += 1;
        emit Counted(msg.sender, count);
        return count;
    }

    function emitNotes(uint256 times) external {
        for (uint256 i = 0; i < times; i++) emit Note(abi.encode(i));
    }

    function fill(uint256 start, uint256 times) external {
        for (uint256 i = 0; i < times; i++) slots[start + i] = start + i + 1;
    }

    function clear(uint256 start, uint256 times) external {
        for (uint256 i = 0; i < times; i++) delete slots[start + i];
    }

    function refuse(uint256 code) external pure {
        revert Refused(code, "probe");
    }

    function refuseWithText(string calldata text) external pure {
        revert(text);
    }

    function divide(uint256 a, uint256 b) external pure returns (uint256) {
        return a / b;
    }

    function halt() external pure {
        assembly {
            invalid()
        }
    }

    function spin(uint256 rounds) external view returns (uint256 total) {
        for (uint256 i = 0; i < rounds; i++) total ^= uint256(keccak256(abi.encode(i, block.number)));
    }

    /// Fails unless it is given more gas than it needs: what an estimate that trusts gasUsed gets wrong.
    function needsGas(uint256 amount) external view returns (uint256) {
        require(gasleft() > amount, "probe: too little gas");
        return gasleft();
    }

    function environment() external view returns (uint256, uint256, uint256, address, uint256, uint256, address) {
        return (block.number, block.timestamp, block.basefee, block.coinbase, block.gaslimit, block.chainid, tx.origin);
    }

    function balanceAt(address account) external view returns (uint256) {
        return account.balance;
    }
}
