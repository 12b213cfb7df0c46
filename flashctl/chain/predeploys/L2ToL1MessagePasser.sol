// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

/// Where withdrawals to L1 are recorded (0x4200...0016).
///
/// From Isthmus on, the storage root of this account is the header's withdrawalsRoot, and L1 proves withdrawals against slot 0:
/// the layout (sentMessages, then msgNonce) and the hash are protocol (specs.optimism.io, "Withdrawals").
contract L2ToL1MessagePasser {
    uint256 internal constant RECEIVE_DEFAULT_GAS_LIMIT = 100_000;
    uint16 public constant MESSAGE_VERSION = 1;

    mapping(bytes32 => bool) public sentMessages;
    uint240 internal msgNonce;

    event MessagePassed(
        uint256 indexed nonce,
        address indexed sender,
        address indexed target,
        uint256 value,
        uint256 gasLimit,
        bytes data,
        bytes32 withdrawalHash
    );
    event WithdrawerBalanceBurnt(uint256 indexed amount);

    receive() external payable {
        initiateWithdrawal(msg.sender, RECEIVE_DEFAULT_GAS_LIMIT, "");
    }

    function version() external pure returns (string memory) {
        return "1.2.0";
    }

    /// Destroys the ether that withdrawals left here; L1 pays it out.
    function burn() external {
        uint256 amount = address(this).balance;
        new Burner{value: amount}();
        emit WithdrawerBalanceBurnt(amount);
    }

    function initiateWithdrawal(address target, uint256 gasLimit, bytes memory data) public payable {
        uint256 nonce = messageNonce();
        bytes32 withdrawalHash = keccak256(abi.encode(nonce, msg.sender, target, msg.value, gasLimit, data));
        sentMessages[withdrawalHash] = true;
        emit MessagePassed(nonce, msg.sender, target, msg.value, gasLimit, data, withdrawalHash);
        unchecked {
            ++msgNonce;
        }
    }

    /// The next nonce, with the message version in its two highest bytes.
    function messageNonce() public view returns (uint256) {
        return (uint256(MESSAGE_VERSION) << 240) | uint256(msgNonce);
    }
}

/// Takes ether into a contract that never comes to exist; EIP-6780 still removes what is created and destroyed in one transaction.
contract Burner {
    constructor() payable {
        assembly {
            selfdestruct(address())
        }
    }
}
