// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITaskMarket} from "../interfaces/ITaskMarket.sol";

/// @title The words both sides sign
/// @notice Every EIP-712 type string of the protocol, and nowhere else. No type serves two roles.
/// @dev Calldata structs are copied as they lie: every field is a static word, in the order of its type. A word with bits
/// above its field's width gives a digest that nobody can have signed.
library MessageHash {
    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");

    bytes32 internal constant TASK_TERMS_TYPEHASH = keccak256(
        "TaskTerms(address consumer,address signer,address dispatcher,address royaltyTo,bytes32 spec,uint32 gpus,uint128 flat,uint128 feePerCall,uint128 ratePerGpuSecond,uint16 dispatcherBps,uint16 royaltyBps,uint128 maxCharge,uint32 maxSeconds,uint64 deadline,uint32 challengeWindow,uint32 verification,uint256 nonce)"
    );

    bytes32 internal constant ASSIGNMENT_TYPEHASH = keccak256(
        "Assignment(bytes32 taskId,address provider,uint64 fence,uint64 leaseFrom,uint64 leaseUntil)"
    );

    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(address provider,bytes32 route,uint64 seq,bytes32 prev,bytes32 request,bytes32 result,bytes32 gpuSet,uint64 startedAtMs,uint64 endedAtMs,uint64 calls,uint64 gpuMs,bytes32 usageRoot,uint128 total)"
    );

    bytes32 internal constant ACCEPTANCE_TYPEHASH =
        keccak256("Acceptance(bytes32 taskId,uint128 total,bytes32 receipt)");

    bytes32 internal constant OPERATOR_KEY_TYPEHASH = keccak256("OperatorKey(address provider,address key)");
}
