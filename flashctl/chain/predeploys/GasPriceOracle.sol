// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

interface IL1Block {
    function basefee() external view returns (uint256);
    function blobBaseFee() external view returns (uint256);
    function baseFeeScalar() external view returns (uint32);
    function blobBaseFeeScalar() external view returns (uint32);
    function l1FeeOverhead() external view returns (uint256);
    function l1FeeScalar() external view returns (uint256);
    function operatorFeeScalar() external view returns (uint32);
    function operatorFeeConstant() external view returns (uint64);
}

/// What a wallet asks about fees (0x4200...000F).
///
/// Since Fjord the L1 fee depends on the FastLZ length of the transaction. This contract answers with the bound for incompressible
/// data instead of compressing on chain: never less than the fee that execution charges.
contract GasPriceOracle {
    IL1Block internal constant L1_BLOCK = IL1Block(0x4200000000000000000000000000000000000015);
    address internal constant DEPOSITOR_ACCOUNT = 0xDeaDDEaDDeAdDeAdDEAdDEaddeAddEAdDEAd0001;
    uint256 public constant DECIMALS = 6;

    /// Bytes of a signature and its framing, which an unsigned transaction lacks.
    uint256 internal constant SIGNATURE_BYTES = 68;
    int256 internal constant COST_INTERCEPT = -42_585_600;
    uint256 internal constant COST_FASTLZ_COEF = 836_500;
    uint256 internal constant MIN_TRANSACTION_SIZE = 100;

    bool public isEcotone;
    bool public isFjord;
    bool public isIsthmus;
    bool public isJovian;

    modifier onlyDepositor() {
        require(msg.sender == DEPOSITOR_ACCOUNT, "GasPriceOracle: only the depositor account can set a fork flag");
        _;
    }

    function version() external pure returns (string memory) {
        return "1.6.0";
    }

    function setEcotone() external onlyDepositor {
        isEcotone = true;
    }

    function setFjord() external onlyDepositor {
        isFjord = true;
    }

    function setIsthmus() external onlyDepositor {
        isIsthmus = true;
    }

    function setJovian() external onlyDepositor {
        isJovian = true;
    }

    function gasPrice() external view returns (uint256) {
        return block.basefee;
    }

    function baseFee() external view returns (uint256) {
        return block.basefee;
    }

    function decimals() external pure returns (uint256) {
        return DECIMALS;
    }

    function l1BaseFee() public view returns (uint256) {
        return L1_BLOCK.basefee();
    }

    function blobBaseFee() public view returns (uint256) {
        return L1_BLOCK.blobBaseFee();
    }

    function baseFeeScalar() public view returns (uint32) {
        return L1_BLOCK.baseFeeScalar();
    }

    function blobBaseFeeScalar() public view returns (uint32) {
        return L1_BLOCK.blobBaseFeeScalar();
    }

    function overhead() external view returns (uint256) {
        require(!isEcotone, "GasPriceOracle: overhead() is deprecated");
        return L1_BLOCK.l1FeeOverhead();
    }

    function scalar() external view returns (uint256) {
        require(!isEcotone, "GasPriceOracle: scalar() is deprecated");
        return L1_BLOCK.l1FeeScalar();
    }

    function getL1Fee(bytes memory data) external view returns (uint256) {
        if (isFjord) return fjordFee(data.length);
        uint256 gasUsed = getL1GasUsed(data);
        if (isEcotone) return (gasUsed * feePerByteScaled()) / (16 * 10 ** DECIMALS);
        return ((gasUsed + L1_BLOCK.l1FeeOverhead()) * l1BaseFee() * L1_BLOCK.l1FeeScalar()) / 10 ** DECIMALS;
    }

    function getL1FeeUpperBound(uint256 unsignedTxSize) external view returns (uint256) {
        require(isFjord, "GasPriceOracle: getL1FeeUpperBound only supports Fjord");
        return fjordFee(unsignedTxSize);
    }

    function getL1GasUsed(bytes memory data) public view returns (uint256) {
        if (isFjord) return (estimatedSize(data.length) * 16) / 10 ** DECIMALS;
        uint256 total = SIGNATURE_BYTES * 16;
        for (uint256 i = 0; i < data.length; i++) {
            total += data[i] == 0 ? 4 : 16;
        }
        return total;
    }

    function getOperatorFee(uint256 gasUsed) external view returns (uint256) {
        if (!isIsthmus) return 0;
        uint256 perGas = gasUsed * L1_BLOCK.operatorFeeScalar();
        return (isJovian ? perGas * 100 : perGas / 10 ** DECIMALS) + L1_BLOCK.operatorFeeConstant();
    }

    function fjordFee(uint256 unsignedTxSize) private view returns (uint256) {
        return (estimatedSize(unsignedTxSize) * feePerByteScaled()) / 10 ** (2 * DECIMALS);
    }

    function feePerByteScaled() private view returns (uint256) {
        return 16 * l1BaseFee() * baseFeeScalar() + blobBaseFee() * blobBaseFeeScalar();
    }

    /// The Fjord size estimate, in millionths of a byte, of a transaction that does not compress.
    function estimatedSize(uint256 unsignedTxSize) private pure returns (uint256) {
        uint256 size = unsignedTxSize + SIGNATURE_BYTES;
        uint256 longestFastlz = size + size / 255 + 16;
        int256 estimate = COST_INTERCEPT + int256(COST_FASTLZ_COEF * longestFastlz);
        int256 least = int256(MIN_TRANSACTION_SIZE * 10 ** DECIMALS);
        return uint256(estimate < least ? least : estimate);
    }
}
