// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "./interfaces/IComputeEscrow.sol";
import {IProviderStaking} from "./interfaces/IProviderStaking.sol";
import {ITaskMarket} from "./interfaces/ITaskMarket.sol";
import {CallPricing} from "./libraries/CallPricing.sol";
import {MessageHash} from "./libraries/MessageHash.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {TallystickDomain} from "./libraries/TallystickDomain.sol";

/// @title The market: was this task done, and what is it worth
/// @dev No token is moved here and no stranger is called, except a consumer's contract by a staticcall with a fixed gas:
/// nothing can re-enter.
contract TaskMarket is ITaskMarket, TallystickDomain {
    using MessageHash for TaskTerms;
    using MessageHash for Receipt;

    /// @notice What all shares together may take out of a charge.
    uint256 private constant SHARE_LIMIT_BPS = 3000;

    /// @notice A provider that proves alone answers for one call at most: the consumer signed for no more.
    uint64 private constant CALLS_ALONE = 1;

    /// @param cancelSeconds How long a cancelled task still takes proofs.
    /// @param minChallengeSeconds Shortest challenge window terms may ask for.
    /// @param maxChallengeSeconds Longest.
    /// @param courtSeconds Longest that the court may take.
    struct Windows {
        uint32 cancelSeconds;
        uint32 minChallengeSeconds;
        uint32 maxChallengeSeconds;
        uint32 courtSeconds;
    }

    IComputeEscrow private immutable _escrow;
    IProviderStaking private immutable _staking;

    /// @inheritdoc ITaskMarket
    address public immutable court;

    /// @inheritdoc ITaskMarket
    uint32 public immutable cancelSeconds;

    /// @inheritdoc ITaskMarket
    uint32 public immutable minChallengeSeconds;

    /// @inheritdoc ITaskMarket
    uint32 public immutable maxChallengeSeconds;

    /// @inheritdoc ITaskMarket
    uint32 public immutable courtSeconds;

    /// @dev A task in one word, see `_pack`. The terms are not stored: the id is their hash.
    mapping(bytes32 taskId => uint256) private _tasks;

    /// @dev 256 nonces a word.
    mapping(address consumer => mapping(uint256 index => uint256)) private _usedNonces;

    /// @param court_ Computed before its deployment; zero in a deployment without a court.
    constructor(address escrow_, address staking_, address court_, Windows memory windows) TallystickDomain(escrow_) {
        address market = IComputeEscrow(escrow_).market();
        if (market != address(this)) revert WrongNeighbour(address(this), market);
        if (windows.minChallengeSeconds > windows.maxChallengeSeconds) {
            revert WindowsOutOfOrder(windows.minChallengeSeconds, windows.maxChallengeSeconds);
        }
        // Stake that backed a proof must still be there when the last word on it is spoken.
        uint256 longest = uint256(windows.maxChallengeSeconds) + windows.courtSeconds;
        uint256 unbonding = IProviderStaking(staking_).unbondingSeconds();
        if (unbonding <= longest) revert UnbondingTooShort(longest + 1, unbonding);

        _escrow = IComputeEscrow(escrow_);
        _staking = IProviderStaking(staking_);
        court = court_;
        cancelSeconds = windows.cancelSeconds;
        minChallengeSeconds = windows.minChallengeSeconds;
        maxChallengeSeconds = windows.maxChallengeSeconds;
        courtSeconds = windows.courtSeconds;
    }

    // ------------------------------------------------------------------ a consumer asks for work

    /// @inheritdoc ITaskMarket
    function createTask(TaskTerms calldata terms, bytes calldata signature) external returns (bytes32 taskId) {
        taskId = _digest(terms.hash());
        if (msg.sender != terms.consumer) _checkTermsSignature(terms.consumer, taskId, signature);
        _checkTerms(terms);
        _checkNotAfter(terms.deadline);

        _useNonce(terms.consumer, terms.nonce);
        _tasks[taskId] = _pack(Status.Open, 0, 0);
        _escrow.lock(terms.consumer, terms.maxCharge);
        emit TaskCreated(taskId, terms.consumer, terms.dispatcher, terms);
    }

    /// @inheritdoc ITaskMarket
    function cancel(TaskTerms calldata terms) external {
        if (msg.sender != terms.consumer) revert OnlyConsumer(terms.consumer, msg.sender);
        bytes32 taskId = _digest(terms.hash());
        uint64 cancelledAt = _requireStatus(_tasks[taskId], Status.Open);
        if (cancelledAt != 0) revert AlreadyCancelled(cancelledAt);
        _checkNotAfter(terms.deadline);

        // Safe cast: a block's time.
        cancelledAt = uint64(block.timestamp);
        _tasks[taskId] = _pack(Status.Open, cancelledAt, 0);
        emit TaskCancelled(taskId, terms.consumer, cancelledAt, _endOf(terms.deadline, cancelledAt));
    }

    /// @inheritdoc ITaskMarket
    function reclaim(TaskTerms calldata terms) external {
        bytes32 taskId = _digest(terms.hash());
        uint64 end = _endOf(terms.deadline, _requireStatus(_tasks[taskId], Status.Open));
        if (block.timestamp <= end) revert NotEndedYet(end, block.timestamp);

        delete _tasks[taskId];
        _escrow.unlock(terms.consumer, terms.maxCharge);
        emit TaskRefunded(taskId, terms.consumer, terms.maxCharge);
    }

    // ------------------------------------------------------------------ a provider is paid, with acceptance

    /// @inheritdoc ITaskMarket
    function prove(AcceptedProof calldata proof) external {
        TaskTerms calldata terms = proof.terms;
        bytes32 taskId = _digest(terms.hash());
        (uint128 charge, bytes32 receipt) = _measure(taskId, terms, proof.usage);
        _checkReceiptSignature(proof.usage.provider, receipt, proof.receiptSignature, true);
        bool byConsumer = _checkAcceptance(terms, taskId, charge, receipt, proof.acceptance);

        uint128 unlocked;
        if (_isNonceUsed(terms.consumer, terms.nonce)) {
            unlocked = _takeOpen(taskId, terms);
        } else {
            // From nothing. The consumer's acceptance names the taskId, so it is a signature on the terms too.
            if (!byConsumer) _checkTermsSignature(terms.consumer, taskId, proof.termsSignature);
            _checkTerms(terms);
            _checkNotAfter(terms.deadline);
            _useNonce(terms.consumer, terms.nonce);
        }
        _settle(taskId, terms, proof.usage.provider, charge, receipt, unlocked);
    }

    /// @inheritdoc ITaskMarket
    function proveMany(AcceptedProof[] calldata proofs) external returns (bool[] memory settled) {
        settled = new bool[](proofs.length);
        for (uint256 row; row < proofs.length; ++row) {
            // Through an outside call, so that a row that fails leaves nothing behind.
            try this.prove(proofs[row]) {
                settled[row] = true;
            } catch (bytes memory reason) {
                emit ProofSkipped(row, reason);
            }
        }
    }

    // ------------------------------------------------------------------ a provider is paid, alone

    /// @inheritdoc ITaskMarket
    function proveAlone(LeasedProof calldata proof) external {
        TaskTerms calldata terms = proof.terms;
        Usage calldata usage = proof.usage;
        bytes32 taskId = _digest(terms.hash());
        uint64 cancelledAt = _requireStatus(_tasks[taskId], Status.Open);
        _checkLease(taskId, proof, cancelledAt);
        if (usage.calls > CALLS_ALONE) revert TooManyCalls(CALLS_ALONE, usage.calls);
        uint256 units = _staking.unitsOf(usage.provider);
        if (units < terms.gpus) revert StakeTooLow(terms.gpus, units);
        (uint128 charge, bytes32 receipt) = _measure(taskId, terms, usage);
        _checkReceiptSignature(usage.provider, receipt, proof.receiptSignature, false);
        if (cancelledAt != 0) charge = _chargeUntilCancel(terms, usage, cancelledAt);

        // Safe cast: a block's time plus 32 bits of seconds.
        uint64 challengeEndsAt = uint64(block.timestamp) + terms.challengeWindow;
        _tasks[taskId] =
            _pack(Status.Proven, challengeEndsAt, _commitment(ProvenWork(usage.provider, charge, receipt)));
        // The charge is never above maxCharge.
        uint128 rest = terms.maxCharge - charge;
        if (rest != 0) _escrow.unlock(terms.consumer, rest);
        emit TaskProven(taskId, terms.consumer, usage.provider, usage.fence, charge, receipt, challengeEndsAt);
    }

    /// @inheritdoc ITaskMarket
    function finalize(TaskTerms calldata terms, ProvenWork calldata proven, bytes calldata acceptance) external {
        bytes32 taskId = _digest(terms.hash());
        uint256 task = _tasks[taskId];
        uint64 challengeEndsAt = _requireStatus(task, Status.Proven);
        uint256 commitment = _commitment(proven);
        if (commitment != task & COMMITMENT_MASK) {
            revert WrongProof(bytes32(task & COMMITMENT_MASK), bytes32(commitment));
        }
        if (block.timestamp <= challengeEndsAt) {
            if (acceptance.length == 0) revert ChallengeWindowOpen(challengeEndsAt, block.timestamp);
            _checkAcceptance(terms, taskId, proven.charge, proven.receipt, acceptance);
        }

        delete _tasks[taskId];
        _settle(taskId, terms, proven.provider, proven.charge, proven.receipt, proven.charge);
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc ITaskMarket
    function taskOf(bytes32 taskId) external view returns (Status status, uint64 time) {
        return _unpack(_tasks[taskId]);
    }

    /// @inheritdoc ITaskMarket
    function nonceUsed(address consumer, uint256 nonce) external view returns (bool) {
        return _isNonceUsed(consumer, nonce);
    }

    /// @inheritdoc ITaskMarket
    function chargeOf(TaskTerms calldata terms, uint64 calls, uint64 gpuMs) external pure returns (uint128) {
        return _charge(terms, calls, gpuMs);
    }

    /// @inheritdoc ITaskMarket
    function receiptOf(TaskTerms calldata terms, Usage calldata usage)
        external
        view
        returns (Receipt memory receipt, bytes32 digest)
    {
        bytes32 taskId = _digest(terms.hash());
        receipt.provider = usage.provider;
        receipt.route = taskId;
        receipt.seq = usage.fence;
        receipt.request = terms.spec;
        receipt.result = usage.result;
        receipt.gpuSet = usage.gpuSet;
        receipt.startedAtMs = usage.startedAtMs;
        receipt.endedAtMs = usage.endedAtMs;
        receipt.calls = usage.calls;
        receipt.gpuMs = usage.gpuMs;
        receipt.usageRoot = usage.usageRoot;
        receipt.total = _charge(terms, usage.calls, usage.gpuMs);
        digest = _digest(MessageHash.hashTaskReceipt(taskId, terms.spec, usage, receipt.total));
    }

    /// @inheritdoc ITaskMarket
    function digestOfTaskTerms(TaskTerms calldata terms) external view returns (bytes32) {
        return _digest(terms.hash());
    }

    /// @inheritdoc ITaskMarket
    function digestOfAssignment(Assignment calldata assignment) external view returns (bytes32) {
        return _digest(
            MessageHash.hashAssignment(
                assignment.taskId,
                assignment.provider,
                assignment.fence,
                assignment.leaseFrom,
                assignment.leaseUntil
            )
        );
    }

    /// @inheritdoc ITaskMarket
    function digestOfReceipt(Receipt calldata receipt) external view returns (bytes32) {
        return _digest(receipt.hash());
    }

    /// @inheritdoc ITaskMarket
    function digestOfAcceptance(Acceptance calldata acceptance) external view returns (bytes32) {
        return _digest(MessageHash.hashAcceptance(acceptance.taskId, acceptance.total, acceptance.receipt));
    }

    /// @inheritdoc ITaskMarket
    function escrow() external view returns (address) {
        return address(_escrow);
    }

    /// @inheritdoc ITaskMarket
    function staking() external view returns (address) {
        return address(_staking);
    }

    // ------------------------------------------------------------------ private: terms

    function _checkTerms(TaskTerms calldata terms) private view {
        uint256 dispatcherBps = terms.dispatcherBps;
        uint256 royaltyBps = terms.royaltyBps;
        // Two 16-bit numbers.
        unchecked {
            if (dispatcherBps + royaltyBps > SHARE_LIMIT_BPS) {
                revert SharesTooHigh(SHARE_LIMIT_BPS, dispatcherBps + royaltyBps);
            }
        }
        if (dispatcherBps != 0 && terms.dispatcher == address(0)) revert ShareWithoutPayee(dispatcherBps);
        if (royaltyBps != 0 && terms.royaltyTo == address(0)) revert ShareWithoutPayee(royaltyBps);
        uint32 challengeWindow = terms.challengeWindow;
        if (challengeWindow < minChallengeSeconds || challengeWindow > maxChallengeSeconds) {
            revert ChallengeWindowOutOfRange(minChallengeSeconds, maxChallengeSeconds, challengeWindow);
        }
        if (terms.verification != 0 && court == address(0)) revert VerificationNeedsCourt(terms.verification);
    }

    /// @dev When the last proof may arrive.
    function _endOf(uint64 deadline, uint64 cancelledAt) private view returns (uint64) {
        if (cancelledAt == 0) return deadline;
        uint64 cancelEnd = cancelledAt + cancelSeconds;
        return cancelEnd < deadline ? cancelEnd : deadline;
    }

    function _checkNotAfter(uint64 end) private view {
        if (block.timestamp > end) revert DeadlinePassed(end, block.timestamp);
    }

    // ------------------------------------------------------------------ private: usage

    /// @dev Checks what always holds of a usage; the charge before any cut and the digest of the receipt.
    function _measure(bytes32 taskId, TaskTerms calldata terms, Usage calldata usage)
        private
        view
        returns (uint128 charge, bytes32 receipt)
    {
        uint64 startedAtMs = usage.startedAtMs;
        uint64 endedAtMs = usage.endedAtMs;
        if (startedAtMs > endedAtMs) revert EndedBeforeStart(startedAtMs, endedAtMs);
        // The chain's clock shows whole seconds: the last one counts to its end.
        uint256 latestMs = block.timestamp * 1000 + 999;
        if (endedAtMs > latestMs) revert EndedInFuture(latestMs, endedAtMs);
        // Just compared; then products of at most 96 bits.
        unchecked {
            uint256 elapsedMs = endedAtMs - startedAtMs;
            uint256 limitMs = uint256(terms.maxSeconds) * 1000;
            if (elapsedMs > limitMs) revert RanTooLong(limitMs, elapsedMs);
            uint256 gpuLimitMs = elapsedMs * terms.gpus;
            if (usage.gpuMs > gpuLimitMs) revert TooMuchGpuTime(gpuLimitMs, usage.gpuMs);
        }
        if (terms.gpus != 0 && usage.gpuSet == 0) revert GpuSetMissing(terms.gpus);

        charge = _charge(terms, usage.calls, usage.gpuMs);
        receipt = _digest(MessageHash.hashTaskReceipt(taskId, terms.spec, usage, charge));
    }

    function _charge(TaskTerms calldata terms, uint64 calls, uint64 gpuMs) private pure returns (uint128) {
        return CallPricing.chargeUp(
            terms.flat, terms.feePerCall, terms.ratePerGpuSecond, terms.maxCharge, calls, gpuMs
        );
    }

    /// @dev Usage after the cancel is not paid: GPU time is cut to what fits before it, a call begun after it is dropped.
    function _chargeUntilCancel(TaskTerms calldata terms, Usage calldata usage, uint64 cancelledAt)
        private
        pure
        returns (uint128)
    {
        uint256 cancelledAtMs = uint256(cancelledAt) * 1000;
        if (usage.startedAtMs >= cancelledAtMs) return _charge(terms, 0, 0);
        uint256 limitMs = (cancelledAtMs - usage.startedAtMs) * terms.gpus;
        // Safe cast: the smaller of the two is at most usage.gpuMs, a uint64.
        uint64 gpuMs = usage.gpuMs < limitMs ? usage.gpuMs : uint64(limitMs);
        return _charge(terms, usage.calls, gpuMs);
    }

    /// @dev The dispatcher gave this provider this task under this fence, the work began inside the lease, and the proof
    /// arrives inside it. A lease in force at a cancel is good until the task's end.
    function _checkLease(bytes32 taskId, LeasedProof calldata proof, uint64 cancelledAt) private view {
        TaskTerms calldata terms = proof.terms;
        Usage calldata usage = proof.usage;
        uint64 end = _endOf(terms.deadline, cancelledAt);
        _checkNotAfter(end);
        uint64 lastArrival = proof.leaseUntil;
        if (cancelledAt != 0) {
            if (proof.leaseFrom > cancelledAt) revert LeaseAfterCancel(cancelledAt, proof.leaseFrom);
            if (lastArrival >= cancelledAt) lastArrival = end;
        }
        if (block.timestamp > lastArrival) revert LeaseOver(lastArrival, block.timestamp);
        uint256 leaseFromMs = uint256(proof.leaseFrom) * 1000;
        if (usage.startedAtMs < leaseFromMs) revert StartedBeforeLease(leaseFromMs, usage.startedAtMs);

        bytes32 digest = _digest(
            MessageHash.hashAssignment(taskId, usage.provider, usage.fence, proof.leaseFrom, proof.leaseUntil)
        );
        address signer = Signatures.recover(digest, proof.assignment);
        if (signer == address(0) || signer != terms.dispatcher) {
            revert InvalidAssignmentSignature(terms.dispatcher, signer);
        }
    }

    // ------------------------------------------------------------------ private: signatures

    function _checkTermsSignature(address consumer, bytes32 taskId, bytes calldata signature) private view {
        address signer = Signatures.recover(taskId, signature);
        if (signer != address(0) && signer == consumer) return;
        if (!Signatures.approvedByContract(consumer, taskId, signature)) {
            revert InvalidTermsSignature(consumer, signer);
        }
    }

    /// @return byConsumer Whether the consumer itself signed, not `terms.signer` for it.
    function _checkAcceptance(
        TaskTerms calldata terms,
        bytes32 taskId,
        uint128 charge,
        bytes32 receipt,
        bytes calldata signature
    ) private view returns (bool byConsumer) {
        bytes32 digest = _digest(MessageHash.hashAcceptance(taskId, charge, receipt));
        address signer = Signatures.recover(digest, signature);
        if (signer != address(0)) {
            if (signer == terms.consumer) return true;
            if (signer == terms.signer) return false;
        }
        if (!Signatures.approvedByContract(terms.consumer, digest, signature)) {
            revert InvalidAcceptanceSignature(terms.consumer, signer);
        }
        return true;
    }

    function _checkReceiptSignature(address provider, bytes32 digest, bytes calldata signature, bool senderCounts)
        private
        view
    {
        address signer =
            senderCounts && signature.length == 0 ? msg.sender : Signatures.recover(digest, signature);
        if (signer != address(0)) {
            if (signer == provider) return;
            if (_staking.signsFor(signer, provider)) return;
        }
        revert InvalidReceiptSignature(provider, signer);
    }

    // ------------------------------------------------------------------ private: state

    /// @dev Money goes round only here: out of what was locked for the task, or out of available.
    function _settle(
        bytes32 taskId,
        TaskTerms calldata terms,
        address provider,
        uint128 charge,
        bytes32 receipt,
        uint128 unlocked
    ) private {
        uint128 dispatcherShare = CallPricing.shareDown(charge, terms.dispatcherBps);
        uint128 royaltyShare = CallPricing.shareDown(charge, terms.royaltyBps);
        _escrow.settle(
            IComputeEscrow.Settlement(
                terms.consumer,
                unlocked,
                charge,
                provider,
                terms.dispatcher,
                dispatcherShare,
                terms.royaltyTo,
                royaltyShare
            )
        );
        emit TaskSettled(
            taskId,
            terms.consumer,
            provider,
            charge,
            receipt,
            terms.dispatcher,
            dispatcherShare,
            terms.royaltyTo,
            royaltyShare
        );
    }

    /// @dev Clears an open task that still takes proofs; returns what was locked for it.
    function _takeOpen(bytes32 taskId, TaskTerms calldata terms) private returns (uint128 unlocked) {
        uint256 task = _tasks[taskId];
        if (task == 0) revert NonceAlreadyUsed(terms.consumer, terms.nonce);
        uint64 cancelledAt = _requireStatus(task, Status.Open);
        _checkNotAfter(_endOf(terms.deadline, cancelledAt));
        delete _tasks[taskId];
        return terms.maxCharge;
    }

    function _isNonceUsed(address consumer, uint256 nonce) private view returns (bool) {
        return (_usedNonces[consumer][nonce >> 8] & (1 << (nonce & 0xff))) != 0;
    }

    function _useNonce(address consumer, uint256 nonce) private {
        uint256 word = _usedNonces[consumer][nonce >> 8];
        uint256 bit = 1 << (nonce & 0xff);
        if (word & bit != 0) revert NonceAlreadyUsed(consumer, nonce);
        _usedNonces[consumer][nonce >> 8] = word | bit;
    }

    // A task's word: status in bits 0-7, time in 8-47, commitment to the proven work in 48-255. 208 bits of a hash leave a
    // second preimage, or the two proofs of a collision, far out of reach; 40 bits of seconds last 34,000 years.
    uint256 private constant COMMITMENT_MASK = ~uint256((1 << 48) - 1);

    function _pack(Status status, uint64 time, uint256 commitment) private pure returns (uint256) {
        return commitment | (uint256(time) << 8) | uint256(status);
    }

    function _unpack(uint256 task) private pure returns (Status status, uint64 time) {
        // Safe casts: each keeps exactly its own bits.
        return (Status(uint8(task)), uint40(task >> 8));
    }

    function _commitment(ProvenWork memory proven) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(proven.provider, proven.charge, proven.receipt))) & COMMITMENT_MASK;
    }

    function _requireStatus(uint256 task, Status expected) private pure returns (uint64 time) {
        Status status;
        (status, time) = _unpack(task);
        if (status != expected) revert WrongStatus(expected, status);
    }
}
