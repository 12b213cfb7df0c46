// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// The view of L1 that every L2 block starts with (0x4200...0015).
///
/// Storage is what execution reads fees from, so the declaration order below is consensus: slot 1 is the base fee, slot 3 packs
/// sequence number and Ecotone scalars, slots 5 and 6 are Bedrock's, 7 is the blob base fee, 8 packs Isthmus and Jovian parameters.
/// Calldata of Ecotone and later is packed, not ABI encoded (specs.optimism.io, "L1 attributes").
contract L1Block {
    address public constant DEPOSITOR_ACCOUNT = 0xDeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001;

    uint64 public number;
    uint64 public timestamp;
    uint256 public basefee;
    bytes32 public hash;
    uint64 public sequenceNumber;
    uint32 public blobBaseFeeScalar;
    uint32 public baseFeeScalar;
    bytes32 public batcherHash;
    uint256 public l1FeeOverhead;
    uint256 public l1FeeScalar;
    uint256 public blobBaseFee;
    uint64 public operatorFeeConstant;
    uint32 public operatorFeeScalar;
    uint16 public daFootprintGasScalar;

    error NotDepositor();

    modifier onlyDepositor() {
        if (msg.sender != DEPOSITOR_ACCOUNT) revert NotDepositor();
        _;
    }

    function version() external pure returns (string memory) {
        return "1.8.0";
    }

    function isCustomGasToken() external pure returns (bool) {
        return false;
    }

    function gasPayingToken() external pure returns (address token, uint8 decimals) {
        return (0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE, 18);
    }

    function gasPayingTokenName() external pure returns (string memory) {
        return "Ether";
    }

    function gasPayingTokenSymbol() external pure returns (string memory) {
        return "ETH";
    }

    /// Bedrock and Regolith: eight ABI words.
    function setL1BlockValues(
        uint64 newNumber,
        uint64 newTimestamp,
        uint256 newBasefee,
        bytes32 newHash,
        uint64 newSequenceNumber,
        bytes32 newBatcherHash,
        uint256 newL1FeeOverhead,
        uint256 newL1FeeScalar
    ) external {
        // The account check of this oldest setter predates custom errors; its text is what callers have seen since.
        require(msg.sender == DEPOSITOR_ACCOUNT, "L1Block: only the depositor account can set L1 block values");
        number = newNumber;
        timestamp = newTimestamp;
        basefee = newBasefee;
        hash = newHash;
        sequenceNumber = newSequenceNumber;
        batcherHash = newBatcherHash;
        l1FeeOverhead = newL1FeeOverhead;
        l1FeeScalar = newL1FeeScalar;
    }

    /// Ecotone to Holocene: 164 packed bytes.
    function setL1BlockValuesEcotone() external onlyDepositor {
        storeEcotoneFields();
    }

    /// Isthmus: the Ecotone fields and u32 scalar, u64 constant of the operator fee.
    function setL1BlockValuesIsthmus() external onlyDepositor {
        storeEcotoneFields();
        uint256 tail = word(164);
        operatorFeeScalar = uint32(tail >> 224);
        operatorFeeConstant = uint64(tail >> 160);
    }

    /// Jovian: the Isthmus fields and u16 DA footprint gas scalar.
    function setL1BlockValuesJovian() external onlyDepositor {
        storeEcotoneFields();
        uint256 tail = word(164);
        operatorFeeScalar = uint32(tail >> 224);
        operatorFeeConstant = uint64(tail >> 160);
        daFootprintGasScalar = uint16(tail >> 144);
    }

    function storeEcotoneFields() private {
        uint256 head = word(4);
        baseFeeScalar = uint32(head >> 224);
        blobBaseFeeScalar = uint32(head >> 192);
        sequenceNumber = uint64(head >> 128);
        timestamp = uint64(head >> 64);
        number = uint64(head);
        basefee = word(36);
        blobBaseFee = word(68);
        hash = bytes32(word(100));
        batcherHash = bytes32(word(132));
    }

    function word(uint256 offset) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(offset)
        }
    }
}
