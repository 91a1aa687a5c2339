// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../interfaces/IComputeEscrow.sol";
import {ITaskMarket} from "../interfaces/ITaskMarket.sol";

/// @title The words both sides sign
/// @notice Every EIP-712 type string of the protocol, and nowhere else. No type serves two roles.
/// @dev Calldata structs are copied as they lie: every field is a static word, in the order of its type. A word with bits
/// above its field's width gives a digest that nobody can have signed.
library MessageHash {
    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    bytes32 internal constant VOUCHER_TYPEHASH =
        keccak256("Voucher(address payer,address provider,uint96 salt,uint128 total,bytes32 receipt)");

    bytes32 internal constant CHANNEL_ALLOWANCE_TYPEHASH = keccak256(
        "ChannelAllowance(address payer,address signer,uint128 cap,uint64 expiresAt,bytes32 purpose,uint256 nonce)"
    );

    bytes32 internal constant TASK_TERMS_TYPEHASH = keccak256(
        "TaskTerms(address consumer,address signer,address dispatcher,address royaltyTo,bytes32 spec,uint32 gpus,uint128 flat,uint128 feePerCall,uint128 ratePerGpuSecond,uint16 dispatcherBps,uint16 royaltyBps,uint128 maxCharge,uint32 maxSeconds,uint64 deadline,uint32 challengeWindow,uint32 verification,uint256 nonce)"
    );

    bytes32 internal constant ASSIGNMENT_TYPEHASH =
        keccak256("Assignment(bytes32 taskId,address provider,uint64 fence,uint64 leaseFrom,uint64 leaseUntil)");

    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(address provider,bytes32 route,uint64 seq,bytes32 prev,bytes32 request,bytes32 result,bytes32 gpuSet,uint64 startedAtMs,uint64 endedAtMs,uint64 calls,uint64 gpuMs,bytes32 usageRoot,uint128 total)"
    );

    bytes32 internal constant ACCEPTANCE_TYPEHASH =
        keccak256("Acceptance(bytes32 taskId,uint128 total,bytes32 receipt)");

    bytes32 internal constant OPERATOR_KEY_TYPEHASH = keccak256("OperatorKey(address provider,address key)");

    /// @dev Words of each struct; the typehash goes before them.
    uint256 internal constant TASK_TERMS_BYTES = 17 * 32;
    uint256 private constant RECEIPT_BYTES = 13 * 32;
    uint256 private constant CHANNEL_ALLOWANCE_BYTES = 6 * 32;

    function hash(IComputeEscrow.ChannelAllowance calldata allowance) internal pure returns (bytes32) {
        uint256 offset;
        assembly ("memory-safe") {
            offset := allowance
        }
        return _hashWords(CHANNEL_ALLOWANCE_TYPEHASH, offset, CHANNEL_ALLOWANCE_BYTES);
    }

    /// @dev Of a row of a batch too, so the numbers come as words; callers keep them within their types.
    function hashVoucher(address payer, address provider, uint256 salt, uint256 total, bytes32 receipt)
        internal
        pure
        returns (bytes32 digest)
    {
        bytes32 typehash = VOUCHER_TYPEHASH;
        assembly ("memory-safe") {
            let start := mload(0x40)
            mstore(start, typehash)
            mstore(add(start, 0x20), payer)
            mstore(add(start, 0x40), provider)
            mstore(add(start, 0x60), salt)
            mstore(add(start, 0x80), total)
            mstore(add(start, 0xa0), receipt)
            digest := keccak256(start, 0xc0)
        }
    }

    function hash(ITaskMarket.TaskTerms calldata terms) internal pure returns (bytes32) {
        uint256 offset;
        assembly ("memory-safe") {
            offset := terms
        }
        return _hashWords(TASK_TERMS_TYPEHASH, offset, TASK_TERMS_BYTES);
    }

    function hash(ITaskMarket.Receipt calldata receipt) internal pure returns (bytes32) {
        uint256 offset;
        assembly ("memory-safe") {
            offset := receipt
        }
        return _hashWords(RECEIPT_TYPEHASH, offset, RECEIPT_BYTES);
    }

    /// @dev The receipt of a task, put together from its terms and the usage.
    function hashTaskReceipt(bytes32 taskId, bytes32 spec, ITaskMarket.Usage calldata usage, uint256 total)
        internal
        pure
        returns (bytes32 digest)
    {
        bytes32 typehash = RECEIPT_TYPEHASH;
        // The words from `result` to `usageRoot` lie in a usage as they do in a receipt.
        assembly ("memory-safe") {
            let start := mload(0x40)
            mstore(start, typehash)
            mstore(add(start, 0x20), calldataload(usage))
            mstore(add(start, 0x40), taskId)
            mstore(add(start, 0x60), calldataload(add(usage, 0x20)))
            mstore(add(start, 0x80), 0)
            mstore(add(start, 0xa0), spec)
            calldatacopy(add(start, 0xc0), add(usage, 0x40), 0xe0)
            mstore(add(start, 0x1a0), total)
            digest := keccak256(start, 0x1c0)
        }
    }

    function hashAssignment(bytes32 taskId, address provider, uint64 fence, uint64 leaseFrom, uint64 leaseUntil)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(ASSIGNMENT_TYPEHASH, taskId, provider, fence, leaseFrom, leaseUntil));
    }

    function hashAcceptance(bytes32 taskId, uint256 total, bytes32 receipt) internal pure returns (bytes32 digest) {
        bytes32 typehash = ACCEPTANCE_TYPEHASH;
        assembly ("memory-safe") {
            let start := mload(0x40)
            mstore(start, typehash)
            mstore(add(start, 0x20), taskId)
            mstore(add(start, 0x40), total)
            mstore(add(start, 0x60), receipt)
            digest := keccak256(start, 0x80)
        }
    }

    function hashOperatorKey(address provider, address key) internal pure returns (bytes32) {
        return keccak256(abi.encode(OPERATOR_KEY_TYPEHASH, provider, key));
    }

    function _hashWords(bytes32 typehash, uint256 offset, uint256 length) private pure returns (bytes32 result) {
        // Written past the free memory pointer and forgotten: nothing else is allocated before the hash is taken.
        assembly ("memory-safe") {
            let start := mload(0x40)
            mstore(start, typehash)
            calldatacopy(add(start, 0x20), offset, length)
            result := keccak256(start, add(length, 0x20))
        }
    }
}
