// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITaskMarket} from "../interfaces/ITaskMarket.sol";

/// @title The fields of a task, read cheaply
/// @notice The compiler checks the width of a calldata field at every read, 60 gas each time. Here `fit` checks all of a
/// struct's fields at once, and the others read without a check.
/// @dev Warning: what the readers return means something only if `fit` is true, which is checked before anything is
/// written: by `createTask`, and by a proof from nothing. A task that exists had terms that fit.
library Fields {
    /// @dev Offsets of the words, in the order of `TaskTerms`.
    uint256 private constant DISPATCHER = 0x40;
    uint256 private constant ROYALTY_TO = 0x60;
    uint256 private constant GPUS = 0xa0;
    uint256 private constant FLAT = 0xc0;
    uint256 private constant FEE_PER_CALL = 0xe0;
    uint256 private constant RATE_PER_GPU_SECOND = 0x100;
    uint256 private constant DISPATCHER_BPS = 0x120;
    uint256 private constant ROYALTY_BPS = 0x140;
    uint256 private constant MAX_CHARGE = 0x160;
    uint256 private constant MAX_SECONDS = 0x180;
    uint256 private constant DEADLINE = 0x1a0;
    uint256 private constant CHALLENGE_WINDOW = 0x1c0;
    uint256 private constant VERIFICATION = 0x1e0;
    uint256 private constant NONCE = 0x200;

    /// @dev Offsets of the words, in the order of `Usage`.
    uint256 private constant STARTED_AT_MS = 0x80;
    uint256 private constant ENDED_AT_MS = 0xa0;
    uint256 private constant CALLS = 0xc0;
    uint256 private constant GPU_MS = 0xe0;

    /// @notice Whether every field of the terms is within its type.
    function fit(ITaskMarket.TaskTerms calldata terms) internal pure returns (bool result) {
        assembly ("memory-safe") {
            let addresses := or(calldataload(terms), calldataload(add(terms, 0x20)))
            addresses := or(addresses, or(calldataload(add(terms, DISPATCHER)), calldataload(add(terms, ROYALTY_TO))))
            let amounts := or(calldataload(add(terms, FLAT)), calldataload(add(terms, FEE_PER_CALL)))
            amounts := or(amounts, calldataload(add(terms, RATE_PER_GPU_SECOND)))
            amounts := or(amounts, calldataload(add(terms, MAX_CHARGE)))
            let bps := or(calldataload(add(terms, DISPATCHER_BPS)), calldataload(add(terms, ROYALTY_BPS)))
            let numbers := or(calldataload(add(terms, GPUS)), calldataload(add(terms, MAX_SECONDS)))
            numbers := or(numbers, calldataload(add(terms, CHALLENGE_WINDOW)))
            numbers := or(numbers, calldataload(add(terms, VERIFICATION)))
            let excess := or(shr(160, addresses), shr(128, amounts))
            excess := or(excess, or(shr(16, bps), shr(32, numbers)))
            result := iszero(or(excess, shr(64, calldataload(add(terms, DEADLINE)))))
        }
    }

    /// @notice Whether every field of the usage is within its type.
    function fit(ITaskMarket.Usage calldata usage) internal pure returns (bool result) {
        assembly ("memory-safe") {
            let numbers := or(calldataload(add(usage, 0x20)), calldataload(add(usage, STARTED_AT_MS)))
            numbers := or(numbers, calldataload(add(usage, ENDED_AT_MS)))
            numbers := or(numbers, or(calldataload(add(usage, CALLS)), calldataload(add(usage, GPU_MS))))
            result := iszero(or(shr(64, numbers), shr(160, calldataload(usage))))
        }
    }

    function readConsumer(ITaskMarket.TaskTerms calldata terms) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(terms)
        }
    }

    function readSigner(ITaskMarket.TaskTerms calldata terms) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, 0x20))
        }
    }

    function readDispatcher(ITaskMarket.TaskTerms calldata terms) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, DISPATCHER))
        }
    }

    function readRoyaltyTo(ITaskMarket.TaskTerms calldata terms) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, ROYALTY_TO))
        }
    }

    function readGpus(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, GPUS))
        }
    }

    function readPrice(ITaskMarket.TaskTerms calldata terms)
        internal
        pure
        returns (uint256 flat, uint256 feePerCall, uint256 ratePerGpuSecond)
    {
        assembly ("memory-safe") {
            flat := calldataload(add(terms, FLAT))
            feePerCall := calldataload(add(terms, FEE_PER_CALL))
            ratePerGpuSecond := calldataload(add(terms, RATE_PER_GPU_SECOND))
        }
    }

    function readDispatcherBps(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, DISPATCHER_BPS))
        }
    }

    function readRoyaltyBps(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, ROYALTY_BPS))
        }
    }

    function readMaxCharge(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, MAX_CHARGE))
        }
    }

    function readMaxSeconds(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, MAX_SECONDS))
        }
    }

    function readDeadline(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, DEADLINE))
        }
    }

    function readChallengeWindow(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, CHALLENGE_WINDOW))
        }
    }

    function readVerification(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, VERIFICATION))
        }
    }

    function readNonce(ITaskMarket.TaskTerms calldata terms) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(terms, NONCE))
        }
    }

    function readProvider(ITaskMarket.Usage calldata usage) internal pure returns (address value) {
        assembly ("memory-safe") {
            value := calldataload(usage)
        }
    }

    function readTimes(ITaskMarket.Usage calldata usage)
        internal
        pure
        returns (uint256 startedAtMs, uint256 endedAtMs)
    {
        assembly ("memory-safe") {
            startedAtMs := calldataload(add(usage, STARTED_AT_MS))
            endedAtMs := calldataload(add(usage, ENDED_AT_MS))
        }
    }

    function readCalls(ITaskMarket.Usage calldata usage) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(usage, CALLS))
        }
    }

    function readGpuMs(ITaskMarket.Usage calldata usage) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := calldataload(add(usage, GPU_MS))
        }
    }
}
