// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// Loops that do one thing each.
contract Loops {
    function hash(uint256 rounds) external pure returns (bytes32 digest) {
        for (uint256 i = 0; i < rounds; i++) {
            digest = keccak256(abi.encode(digest, i));
        }
    }

    function compute(uint256 rounds) external pure returns (uint256 x) {
        x = 88172645463325252;
        for (uint256 i = 0; i < rounds; i++) {
            unchecked {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                x = x * 0x9E3779B97F4A7C15 + i;
            }
        }
    }

    function sort(uint256 count) external pure returns (uint256 least) {
        uint256[] memory items = new uint256[](count);
        for (uint256 i = 0; i < count; i++) items[i] = (i * 7919) % 1009;
        for (uint256 i = 1; i < count; i++) {
            uint256 item = items[i];
            uint256 j = i;
            while (j > 0 && items[j - 1] > item) {
                items[j] = items[j - 1];
                j--;
            }
            items[j] = item;
        }
        return items[0];
    }
}
