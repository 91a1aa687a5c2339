// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "./interfaces/IComputeEscrow.sol";
import {IDisputeCourt} from "./interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "./interfaces/IProviderStaking.sol";
import {ITaskMarket} from "./interfaces/ITaskMarket.sol";
import {CallPricing} from "./libraries/CallPricing.sol";
import {Fields} from "./libraries/Fields.sol";
import {MessageHash} from "./libraries/MessageHash.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {TallystickDomain} from "./libraries/TallystickDomain.sol";

/// @title The market: was this task done, and what is it worth
/// @dev No token is moved here and no stranger is called, except a consumer's contract by a staticcall with a fixed gas:
/// nothing can re-enter. The court, which `dispute` calls last, calls nobody but the staking's views.
contract TaskMarket is ITaskMarket, TallystickDomain {
    using Fields for TaskTerms;
    using Fields for Usage;
    using MessageHash for TaskTerms;
    using MessageHash for Receipt;

    /// @notice What all shares together may take out of a charge.
    uint256 private constant SHARE_LIMIT_BPS = 3000;

    /// @notice The last rule of `verification` that has a meaning.
    uint256 private constant LAST_RULE = 2;

    /// @notice A provider that proves alone answers for one call at most: the consumer signed for no more.
    uint256 private constant CALLS_ALONE = 1;

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

    struct NonceWord {
        uint256 bits;
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

    /// @inheritdoc ITaskMarket
    uint128 public immutable bondFloor;

    /// @dev A task in one word, see `_pack`. The terms are not stored: the id is their hash.
    mapping(bytes32 taskId => uint256) private _tasks;

    /// @dev 256 nonces a word.
    mapping(address consumer => mapping(uint256 index => NonceWord)) private _usedNonces;

    /// @param court_ Computed before its deployment; zero in a deployment without a court.
    constructor(address escrow_, address staking_, address court_, Windows memory windows, uint128 bondFloor_)
        TallystickDomain(escrow_)
    {
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
        bondFloor = bondFloor_;
    }

    // ------------------------------------------------------------------ a consumer asks for work

    /// @inheritdoc ITaskMarket
    function createTask(TaskTerms calldata terms, bytes calldata signature) external returns (bytes32 taskId) {
        taskId = _digest(terms.hash());
        address consumer = terms.readConsumer();
        if (msg.sender != consumer) _revertIf(_termsSignatureFailure(consumer, taskId, signature));
        _revertIf(_termsFailure(terms));
        (NonceWord storage word, uint256 used, uint256 bit) = _nonceOf(consumer, terms.readNonce());
        if (used & bit != 0) revert NonceAlreadyUsed(consumer, terms.readNonce());

        word.bits = used | bit;
        _tasks[taskId] = _pack(Status.Open, 0, 0);
        // Safe cast: the terms fit.
        _escrow.lockAvailable(consumer, uint128(terms.readMaxCharge()));
        _emitCreated(taskId, terms);
    }

    /// @inheritdoc ITaskMarket
    function cancel(TaskTerms calldata terms) external {
        if (msg.sender != terms.consumer) revert OnlyConsumer(terms.consumer, msg.sender);
        bytes32 taskId = _idOfTask(terms);
        uint256 cancelledAt = _requireStatus(_tasks[taskId], Status.Open);
        // Safe casts, here and below: a block's time, and an end that is not after the deadline.
        if (cancelledAt != 0) revert AlreadyCancelled(uint64(cancelledAt));
        if (block.timestamp > terms.deadline) revert DeadlinePassed(terms.deadline, block.timestamp);

        _tasks[taskId] = _pack(Status.Open, block.timestamp, 0);
        uint64 end = uint64(_endOf(terms.deadline, block.timestamp));
        emit TaskCancelled(taskId, terms.consumer, uint64(block.timestamp), end);
    }

    /// @inheritdoc ITaskMarket
    function reclaim(TaskTerms calldata terms) external {
        bytes32 taskId = _idOfTask(terms);
        uint256 end = _endOf(terms.deadline, _requireStatus(_tasks[taskId], Status.Open));
        // Safe cast: not after the deadline.
        if (block.timestamp <= end) revert NotEndedYet(uint64(end), block.timestamp);

        delete _tasks[taskId];
        _escrow.unlock(terms.consumer, terms.maxCharge);
        emit TaskRefunded(taskId, terms.consumer, terms.maxCharge);
    }

    // ------------------------------------------------------------------ a provider is paid, with acceptance

    /// @inheritdoc ITaskMarket
    function prove(AcceptedProof calldata proof) external {
        _prove(proof, true);
    }

    /// @inheritdoc ITaskMarket
    function proveOrder(AcceptedProof calldata proof) external {
        _prove(proof, false);
    }

    function _prove(AcceptedProof calldata proof, bool expectTask) private {
        TaskTerms calldata terms = proof.terms;
        bytes32 taskId = _digest(terms.hash());
        (bytes memory failure, uint256 charge, bytes32 receipt) = _measure(taskId, terms, proof.usage);
        _revertIf(failure);
        address provider = proof.usage.readProvider();
        // The sender may stand for a signature on the receipt.
        address signer = proof.receiptR == 0 ? msg.sender : Signatures.recover(receipt, proof.receiptR, proof.receiptVs);
        _revertIf(_receiptFailure(provider, signer));
        uint256 unlocked;
        // Whether the consumer has the money for an order, the escrow says itself.
        (failure, unlocked) = _take(taskId, proof, charge, receipt, type(uint256).max, expectTask);
        _revertIf(failure);
        _settle(taskId, terms, provider, charge, receipt, unlocked);
    }

    /// @inheritdoc ITaskMarket
    function proveMany(AcceptedProof[] calldata proofs) external returns (bool[] memory settled) {
        settled = new bool[](proofs.length);
        Run memory run;
        for (uint256 row; row < proofs.length; ++row) {
            AcceptedProof calldata proof = proofs[row];
            if (!_continues(run, proof)) {
                _payRun(run);
                _startRun(run, proof);
            }
            bytes memory failure = _addToRun(run, proof);
            if (failure.length == 0) settled[row] = true;
            else emit ProofSkipped(row, failure);
        }
        _payRun(run);
    }

    // ------------------------------------------------------------------ a provider is paid, alone

    /// @inheritdoc ITaskMarket
    function proveAlone(LeasedProof calldata proof) external {
        TaskTerms calldata terms = proof.terms;
        Usage calldata usage = proof.usage;
        bytes32 taskId = _digest(terms.hash());
        uint256 cancelledAt = _requireStatus(_tasks[taskId], Status.Open);
        _checkLease(taskId, proof, cancelledAt);
        if (usage.calls > CALLS_ALONE) revert TooManyCalls(uint64(CALLS_ALONE), usage.calls);
        uint256 units = _staking.unitsOf(usage.provider);
        if (units < terms.gpus) revert StakeTooLow(terms.gpus, units);
        (bytes memory failure, uint256 charge, bytes32 receipt) = _measure(taskId, terms, usage);
        _revertIf(failure);
        _revertIf(_receiptFailure(usage.provider, Signatures.recover(receipt, proof.receiptSignature)));
        if (cancelledAt != 0) charge = _chargeUntilCancel(terms, usage, cancelledAt);

        // Safe casts: the charge is never above maxCharge; a block's time plus 32 bits of seconds.
        uint128 owed = uint128(charge);
        uint64 challengeEndsAt = uint64(block.timestamp + terms.challengeWindow);
        _tasks[taskId] = _pack(Status.Proven, challengeEndsAt, _commitment(ProvenWork(usage.provider, owed, receipt)));
        uint128 rest = terms.maxCharge - owed;
        if (rest != 0) _escrow.unlock(terms.consumer, rest);
        emit TaskProven(taskId, terms.consumer, usage.provider, usage.fence, owed, receipt, challengeEndsAt);
    }

    /// @inheritdoc ITaskMarket
    function finalize(TaskTerms calldata terms, ProvenWork calldata proven, bytes calldata acceptance) external {
        (bytes32 taskId, uint256 challengeEndsAt) = _requireProof(terms, proven, Status.Proven);
        if (block.timestamp <= challengeEndsAt) {
            // Safe cast: 40 bits of the task's word.
            if (acceptance.length == 0) revert ChallengeWindowOpen(uint64(challengeEndsAt), block.timestamp);
            (bytes memory failure,) = _acceptanceFailure(terms, taskId, proven.charge, proven.receipt, acceptance);
            _revertIf(failure);
        }

        delete _tasks[taskId];
        _settle(taskId, terms, proven.provider, proven.charge, proven.receipt, proven.charge);
    }

    // ------------------------------------------------------------------ a consumer doubts the result

    /// @inheritdoc ITaskMarket
    function dispute(TaskTerms calldata terms, ProvenWork calldata proven) external {
        if (msg.sender != terms.consumer) revert OnlyConsumer(terms.consumer, msg.sender);
        (bytes32 taskId, uint256 challengeEndsAt) = _requireProof(terms, proven, Status.Proven);
        // Safe casts, here and below: 40 bits of the task's word, and 32 bits of seconds after them.
        if (block.timestamp > challengeEndsAt) revert ChallengeWindowOver(uint64(challengeEndsAt), block.timestamp);
        if (terms.verification == 0) revert NotDisputable();
        uint128 bond = bondOf(terms.verification, proven.charge);

        _tasks[taskId] = _pack(Status.Disputed, block.timestamp, _commitment(proven));
        emit TaskDisputed(taskId, terms.consumer, proven.provider, bond, uint64(block.timestamp + courtSeconds));
        _escrow.lockAvailable(terms.consumer, bond);
        IDisputeCourt(court).open(taskId, terms, proven.provider);
    }

    /// @inheritdoc ITaskMarket
    function resolve(
        TaskTerms calldata terms,
        ProvenWork calldata proven,
        Verdict verdict,
        address[] calldata checkers
    ) external {
        if (msg.sender != court) revert OnlyCourt(court, msg.sender);
        (bytes32 taskId, uint256 disputedAt) = _requireProof(terms, proven, Status.Disputed);
        uint64 courtEndsAt = uint64(disputedAt + courtSeconds);
        if (block.timestamp > courtEndsAt) revert CourtOver(courtEndsAt, block.timestamp);
        _resolve(taskId, terms, proven, verdict, checkers);
    }

    /// @inheritdoc ITaskMarket
    function endDispute(TaskTerms calldata terms, ProvenWork calldata proven) external {
        (bytes32 taskId, uint256 disputedAt) = _requireProof(terms, proven, Status.Disputed);
        uint64 courtEndsAt = uint64(disputedAt + courtSeconds);
        if (block.timestamp <= courtEndsAt) revert CourtNotOver(courtEndsAt, block.timestamp);
        _resolve(taskId, terms, proven, Verdict.Undecided, new address[](0));
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc ITaskMarket
    function taskOf(bytes32 taskId) external view returns (Status status, uint64 time) {
        uint256 unpackedTime;
        (status, unpackedTime) = _unpack(_tasks[taskId]);
        // Safe cast: 40 bits.
        time = uint64(unpackedTime);
    }

    /// @inheritdoc ITaskMarket
    function nonceUsed(address consumer, uint256 nonce) external view returns (bool) {
        (, uint256 used, uint256 bit) = _nonceOf(consumer, nonce);
        return used & bit != 0;
    }

    /// @inheritdoc ITaskMarket
    function chargeOf(TaskTerms calldata terms, uint64 calls, uint64 gpuMs) external pure returns (uint128) {
        if (!terms.fit()) revert FieldTooWide();
        // Safe cast: not above maxCharge.
        return uint128(_charge(terms, calls, gpuMs));
    }

    /// @inheritdoc ITaskMarket
    function bondOf(uint32 verification, uint128 charge) public view returns (uint128) {
        uint256 bond = CallPricing.bondUp(charge, verification >> 8, bondFloor);
        if (bond > type(uint128).max) revert BondTooLarge(type(uint128).max, bond);
        // Just compared.
        return uint128(bond);
    }

    /// @inheritdoc ITaskMarket
    function receiptOf(TaskTerms calldata terms, Usage calldata usage)
        external
        view
        returns (Receipt memory receipt, bytes32 digest)
    {
        if (!terms.fit() || !usage.fit()) revert FieldTooWide();
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
        // Safe cast: not above maxCharge.
        receipt.total = uint128(_charge(terms, usage.calls, usage.gpuMs));
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
                assignment.taskId, assignment.provider, assignment.fence, assignment.leaseFrom, assignment.leaseUntil
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

    function _termsFailure(TaskTerms calldata terms) private view returns (bytes memory failure) {
        if (!terms.fit()) return abi.encodeWithSelector(FieldTooWide.selector);
        uint256 dispatcherBps = terms.readDispatcherBps();
        uint256 royaltyBps = terms.readRoyaltyBps();
        // Two 16-bit numbers.
        unchecked {
            if (dispatcherBps + royaltyBps > SHARE_LIMIT_BPS) {
                return _failure(SharesTooHigh.selector, SHARE_LIMIT_BPS, dispatcherBps + royaltyBps);
            }
        }
        if (dispatcherBps != 0 && terms.readDispatcher() == address(0)) {
            return abi.encodeWithSelector(ShareWithoutPayee.selector, dispatcherBps);
        }
        if (royaltyBps != 0 && terms.readRoyaltyTo() == address(0)) {
            return abi.encodeWithSelector(ShareWithoutPayee.selector, royaltyBps);
        }
        uint256 window = terms.readChallengeWindow();
        if (window < minChallengeSeconds || window > maxChallengeSeconds) {
            return abi.encodeWithSelector(
                ChallengeWindowOutOfRange.selector, minChallengeSeconds, maxChallengeSeconds, window
            );
        }
        uint256 verification = terms.readVerification();
        if (verification != 0) {
            uint256 rule = verification & 0xff;
            if (rule == 0 || rule > LAST_RULE || verification >> 8 > CallPricing.BPS) {
                return abi.encodeWithSelector(InvalidVerification.selector, verification);
            }
            if (court == address(0)) return abi.encodeWithSelector(VerificationNeedsCourt.selector, verification);
        }
        return _endFailure(terms.readDeadline());
    }

    function _endFailure(uint256 end) private view returns (bytes memory failure) {
        if (block.timestamp > end) return _failure(DeadlinePassed.selector, end, block.timestamp);
    }

    /// @dev When the last proof may arrive.
    function _endOf(uint256 deadline, uint256 cancelledAt) private view returns (uint256) {
        if (cancelledAt == 0) return deadline;
        // 40 bits plus 32 bits.
        unchecked {
            uint256 cancelEnd = cancelledAt + cancelSeconds;
            return cancelEnd < deadline ? cancelEnd : deadline;
        }
    }

    // ------------------------------------------------------------------ private: usage

    /// @dev Checks what always holds of a usage; the charge before any cut and the digest of the receipt.
    function _measure(bytes32 taskId, TaskTerms calldata terms, Usage calldata usage)
        private
        view
        returns (bytes memory failure, uint256 charge, bytes32 receipt)
    {
        if (!usage.fit()) return (abi.encodeWithSelector(FieldTooWide.selector), 0, 0);
        // 64-bit times and 32-bit numbers: no product passes 2^106, and a difference is compared first.
        unchecked {
            (uint256 startedAtMs, uint256 endedAtMs) = usage.readTimes();
            if (startedAtMs > endedAtMs) {
                return (_failure(EndedBeforeStart.selector, startedAtMs, endedAtMs), 0, 0);
            }
            // The chain's clock shows whole seconds: the last one counts to its end.
            uint256 latestMs = block.timestamp * 1000 + 999;
            if (endedAtMs > latestMs) return (_failure(EndedInFuture.selector, latestMs, endedAtMs), 0, 0);
            uint256 elapsedMs = endedAtMs - startedAtMs;
            uint256 limitMs = terms.readMaxSeconds() * 1000;
            if (elapsedMs > limitMs) return (_failure(RanTooLong.selector, limitMs, elapsedMs), 0, 0);
            uint256 gpus = terms.readGpus();
            uint256 gpuMs = usage.readGpuMs();
            if (gpuMs > elapsedMs * gpus) return (_failure(TooMuchGpuTime.selector, elapsedMs * gpus, gpuMs), 0, 0);
            if (usage.gpuSet == 0 && gpus != 0) {
                return (abi.encodeWithSelector(GpuSetMissing.selector, gpus), 0, 0);
            }
            charge = _charge(terms, usage.readCalls(), gpuMs);
        }
        receipt = _digest(MessageHash.hashTaskReceipt(taskId, terms.spec, usage, charge));
    }

    function _charge(TaskTerms calldata terms, uint256 calls, uint256 gpuMs) private pure returns (uint256) {
        (uint256 flat, uint256 feePerCall, uint256 ratePerGpuSecond) = terms.readPrice();
        return CallPricing.chargeUp(flat, feePerCall, ratePerGpuSecond, terms.readMaxCharge(), calls, gpuMs);
    }

    /// @dev Usage after the cancel is not paid: GPU time is cut to what fits before it, a call begun after it is dropped.
    function _chargeUntilCancel(TaskTerms calldata terms, Usage calldata usage, uint256 cancelledAt)
        private
        pure
        returns (uint256)
    {
        uint256 cancelledAtMs = cancelledAt * 1000;
        if (usage.startedAtMs >= cancelledAtMs) return _charge(terms, 0, 0);
        uint256 limitMs = (cancelledAtMs - usage.startedAtMs) * terms.gpus;
        return _charge(terms, usage.calls, usage.gpuMs < limitMs ? usage.gpuMs : limitMs);
    }

    /// @dev The dispatcher gave this provider this task under this fence, the work began inside the lease, and the proof
    /// arrives inside it. A lease in force at a cancel is good until the task's end.
    function _checkLease(bytes32 taskId, LeasedProof calldata proof, uint256 cancelledAt) private view {
        TaskTerms calldata terms = proof.terms;
        Usage calldata usage = proof.usage;
        // Safe casts: neither is after the deadline; 40 bits of the task's word.
        uint64 end = uint64(_endOf(terms.deadline, cancelledAt));
        if (block.timestamp > end) revert DeadlinePassed(end, block.timestamp);
        uint64 lastArrival = proof.leaseUntil;
        if (cancelledAt != 0) {
            if (proof.leaseFrom > cancelledAt) revert LeaseAfterCancel(uint64(cancelledAt), proof.leaseFrom);
            if (lastArrival >= cancelledAt) lastArrival = end;
        }
        if (block.timestamp > lastArrival) revert LeaseOver(lastArrival, block.timestamp);
        uint256 leaseFromMs = uint256(proof.leaseFrom) * 1000;
        if (usage.startedAtMs < leaseFromMs) revert StartedBeforeLease(leaseFromMs, usage.startedAtMs);

        bytes32 digest =
            _digest(MessageHash.hashAssignment(taskId, usage.provider, usage.fence, proof.leaseFrom, proof.leaseUntil));
        address signer = Signatures.recover(digest, proof.assignment);
        if (signer == address(0) || signer != terms.dispatcher) {
            revert InvalidAssignmentSignature(terms.dispatcher, signer);
        }
    }

    // ------------------------------------------------------------------ private: signatures

    function _termsSignatureFailure(address consumer, bytes32 taskId, bytes calldata signature)
        private
        view
        returns (bytes memory failure)
    {
        address signer = Signatures.recover(taskId, signature);
        if (signer != address(0) && signer == consumer) return failure;
        if (Signatures.approvedByContract(consumer, taskId, signature)) return failure;
        return _failure(InvalidTermsSignature.selector, consumer, signer);
    }

    /// @return failure The encoded error, empty if the acceptance stands.
    /// @return byConsumer Whether the consumer itself signed, not `terms.signer` for it.
    function _acceptanceFailure(
        TaskTerms calldata terms,
        bytes32 taskId,
        uint256 charge,
        bytes32 receipt,
        bytes calldata signature
    ) private view returns (bytes memory failure, bool byConsumer) {
        bytes32 digest = _digest(MessageHash.hashAcceptance(taskId, charge, receipt));
        address signer = Signatures.recover(digest, signature);
        address consumer = terms.readConsumer();
        if (signer != address(0)) {
            if (signer == consumer) return (failure, true);
            if (signer == terms.readSigner()) return (failure, false);
        }
        if (Signatures.approvedByContract(consumer, digest, signature)) return (failure, true);
        return (_failure(InvalidAcceptanceSignature.selector, consumer, signer), false);
    }

    function _receiptFailure(address provider, address signer) private view returns (bytes memory failure) {
        if (signer != address(0)) {
            if (signer == provider) return failure;
            if (_staking.signsFor(signer, provider)) return failure;
        }
        return _failure(InvalidReceiptSignature.selector, provider, signer);
    }

    // ------------------------------------------------------------------ private: tasks and orders

    /// @dev For the ways out of a task that ask for no signature on its id: a task created before a fork changed the chain
    /// id is still found under its own, so that nothing locked stays here for ever.
    function _idOfTask(TaskTerms calldata terms) private view returns (bytes32 taskId) {
        bytes32 structHash = terms.hash();
        taskId = _digest(structHash);
        if (_tasks[taskId] == 0) taskId = _digestAtDeployment(structHash);
    }

    /// @dev The last checks of an accepted proof, then its effect: the task is cleared, or the order's nonce used up.
    /// Answers with the encoded error if a check fails, and has then changed nothing.
    /// @param available What the consumer can spend, in case of an order.
    /// @param expectTask Only decides which of two words is read first: the task's or the nonce's.
    /// @return failure The encoded error, empty if the proof stands.
    /// @return unlocked What was locked for the task; zero for an order.
    function _take(
        bytes32 taskId,
        AcceptedProof calldata proof,
        uint256 charge,
        bytes32 receipt,
        uint256 available,
        bool expectTask
    ) private returns (bytes memory failure, uint256 unlocked) {
        TaskTerms calldata terms = proof.terms;
        bool byConsumer;
        (failure, byConsumer) = _acceptanceFailure(terms, taskId, charge, receipt, proof.acceptance);
        if (failure.length != 0) return (failure, 0);

        if (expectTask) {
            uint256 task = _tasks[taskId];
            if (task != 0) return _takeOpen(taskId, task, terms);
        }
        (NonceWord storage word, uint256 used, uint256 bit) = _nonceOf(terms.readConsumer(), terms.readNonce());
        if (used & bit != 0) return _takeOpen(taskId, _tasks[taskId], terms);

        // From nothing. The consumer's acceptance names the taskId, so it is a signature on the terms too.
        failure = _termsFailure(terms);
        if (failure.length != 0) return (failure, 0);
        if (!byConsumer) {
            failure = _termsSignatureFailure(terms.readConsumer(), taskId, proof.termsSignature);
            if (failure.length != 0) return (failure, 0);
        }
        if (available < charge) {
            return (_failure(IComputeEscrow.InsufficientAvailable.selector, charge, available), 0);
        }
        word.bits = used | bit;
    }

    function _takeOpen(bytes32 taskId, uint256 task, TaskTerms calldata terms)
        private
        returns (bytes memory failure, uint256 unlocked)
    {
        if (task == 0) {
            failure = abi.encodeWithSelector(NonceAlreadyUsed.selector, terms.readConsumer(), terms.readNonce());
            return (failure, 0);
        }
        // An open task's word is its status and, from the second byte up, the time of its cancel.
        if (uint8(task) != uint8(Status.Open)) {
            return (_failure(WrongStatus.selector, uint256(Status.Open), uint8(task)), 0);
        }
        failure = _endFailure(_endOf(terms.readDeadline(), task >> 8));
        if (failure.length != 0) return (failure, 0);
        delete _tasks[taskId];
        return (failure, terms.readMaxCharge());
    }

    /// @return word Where the nonce's bit is.
    /// @return used The word's bits.
    /// @return bit The nonce's own.
    function _nonceOf(address consumer, uint256 nonce)
        private
        view
        returns (NonceWord storage word, uint256 used, uint256 bit)
    {
        word = _usedNonces[consumer][nonce >> 8];
        used = word.bits;
        bit = 1 << (nonce & 0xff);
    }

    // ------------------------------------------------------------------ private: money

    /// @dev One charge, out of what was locked for the task or out of available.
    function _settle(
        bytes32 taskId,
        TaskTerms calldata terms,
        address provider,
        uint256 charge,
        bytes32 receipt,
        uint256 unlocked
    ) private {
        (uint256 dispatcherShare, uint256 royaltyShare) = _emitSettled(taskId, terms, provider, charge, receipt);
        _escrow.payProviderFrom(
            terms.readConsumer(),
            unlocked,
            charge,
            provider,
            terms.readDispatcher(),
            dispatcherShare,
            terms.readRoyaltyTo(),
            royaltyShare
        );
    }

    /// @dev Charge and bond, both locked: to whom the verdict says, or back.
    function _resolve(
        bytes32 taskId,
        TaskTerms calldata terms,
        ProvenWork calldata proven,
        Verdict verdict,
        address[] memory checkers
    ) private {
        uint128 bond = bondOf(terms.verification, proven.charge);
        // What each checker was promised: a third of the bond, whether two of them earn it or three.
        uint128 perChecker = verdict == Verdict.Right ? bond / uint128(CallPricing.CHECKERS) : 0;

        delete _tasks[taskId];
        emit DisputeResolved(taskId, terms.consumer, proven.provider, verdict, bond, perChecker, checkers);
        if (verdict == Verdict.Wrong) {
            emit TaskRefunded(taskId, terms.consumer, proven.charge);
            // Checked: both are in the account's locked, a uint128.
            _escrow.unlock(terms.consumer, proven.charge + bond);
            return;
        }
        if (verdict == Verdict.Right) _payBond(terms.consumer, proven.provider, bond, perChecker, checkers);
        else _escrow.unlock(terms.consumer, bond);
        _settle(taskId, terms, proven.provider, proven.charge, proven.receipt, proven.charge);
    }

    function _payBond(address consumer, address provider, uint128 bond, uint128 perChecker, address[] memory checkers)
        private
    {
        address nobody = address(0);
        for (uint256 i; i < checkers.length; ++i) {
            // Checked: more than three checkers revert.
            bond -= perChecker;
            _escrow.payProviderFrom(consumer, perChecker, perChecker, checkers[i], nobody, 0, nobody, 0);
        }
        if (bond != 0) _escrow.payProviderFrom(consumer, bond, bond, provider, nobody, 0, nobody, 0);
    }

    function _emitSettled(bytes32 taskId, TaskTerms calldata terms, address provider, uint256 charge, bytes32 receipt)
        private
        returns (uint256 dispatcherShare, uint256 royaltyShare)
    {
        dispatcherShare = CallPricing.shareDown(charge, terms.readDispatcherBps());
        royaltyShare = CallPricing.shareDown(charge, terms.readRoyaltyBps());
        // Safe casts: the charge is never above maxCharge, shares are parts of it.
        emit TaskSettled(
            taskId,
            terms.readConsumer(),
            provider,
            uint128(charge),
            receipt,
            terms.readDispatcher(),
            uint128(dispatcherShare),
            terms.readRoyaltyTo(),
            uint128(royaltyShare)
        );
    }

    function _emitCreated(bytes32 taskId, TaskTerms calldata terms) private {
        bytes32 topic = TaskCreated.selector;
        address consumer = terms.readConsumer();
        address dispatcher = terms.readDispatcher();
        uint256 size = MessageHash.TASK_TERMS_BYTES;
        // The terms fit: their words are their encoding.
        assembly ("memory-safe") {
            let start := mload(0x40)
            calldatacopy(start, terms, size)
            log4(start, size, topic, taskId, consumer, dispatcher)
        }
    }

    /// @dev Neighbouring rows of a batch with the same four parties, which one call of the escrow pays.
    struct Run {
        address consumer;
        address provider;
        address dispatcher;
        address royaltyTo;
        // Who signed the last receipt that stood: known to sign for the provider.
        address signer;
        // What the consumer can still spend.
        uint256 available;
        // Sums over the rows.
        uint256 unlocked;
        uint256 charge;
        uint256 dispatcherShare;
        uint256 royaltyShare;
    }

    function _continues(Run memory run, AcceptedProof calldata proof) private pure returns (bool) {
        TaskTerms calldata terms = proof.terms;
        return run.consumer == terms.readConsumer() && run.provider == proof.usage.readProvider()
            && run.dispatcher == terms.readDispatcher() && run.royaltyTo == terms.readRoyaltyTo();
    }

    function _startRun(Run memory run, AcceptedProof calldata proof) private view {
        TaskTerms calldata terms = proof.terms;
        run.consumer = terms.readConsumer();
        run.provider = proof.usage.readProvider();
        run.dispatcher = terms.readDispatcher();
        run.royaltyTo = terms.readRoyaltyTo();
        run.signer = address(0);
        (run.available,) = _escrow.accountOf(run.consumer);
        run.unlocked = 0;
        run.charge = 0;
        run.dispatcherShare = 0;
        run.royaltyShare = 0;
    }

    /// @dev Answers with the encoded error, and has then changed nothing, if the row does not hold.
    function _addToRun(Run memory run, AcceptedProof calldata proof) private returns (bytes memory failure) {
        TaskTerms calldata terms = proof.terms;
        bytes32 taskId = _digest(terms.hash());
        uint256 charge;
        bytes32 receipt;
        (failure, charge, receipt) = _measure(taskId, terms, proof.usage);
        if (failure.length != 0) return failure;
        address signer = Signatures.recover(receipt, proof.receiptR, proof.receiptVs);
        if (signer == address(0) || signer != run.signer) {
            failure = _receiptFailure(run.provider, signer);
            if (failure.length != 0) return failure;
            run.signer = signer;
        }
        uint256 unlocked;
        (failure, unlocked) = _take(taskId, proof, charge, receipt, run.available, false);
        if (failure.length != 0) return failure;
        (uint256 dispatcherShare, uint256 royaltyShare) = _emitSettled(taskId, terms, run.provider, charge, receipt);
        // A charge is within what is available or unlocked, so the sums stay within what the consumer has in the escrow, a
        // uint128.
        unchecked {
            run.available = run.available + unlocked - charge;
            run.unlocked += unlocked;
            run.charge += charge;
            run.dispatcherShare += dispatcherShare;
            run.royaltyShare += royaltyShare;
        }
    }

    function _payRun(Run memory run) private {
        if (run.charge == 0 && run.unlocked == 0) return;
        _escrow.payProviderFrom(
            run.consumer,
            run.unlocked,
            run.charge,
            run.provider,
            run.dispatcher,
            run.dispatcherShare,
            run.royaltyTo,
            run.royaltyShare
        );
    }

    // ------------------------------------------------------------------ private: a task's word

    // Status in bits 0-7, time in 8-47, commitment to the proven work in 48-255. 208 bits of a hash leave a second preimage,
    // or the two proofs of a collision, far out of reach; 40 bits of seconds last 34,000 years.
    uint256 private constant COMMITMENT_MASK = ~uint256((1 << 48) - 1);

    function _pack(Status status, uint256 time, uint256 commitment) private pure returns (uint256) {
        return commitment | (time << 8) | uint256(status);
    }

    function _unpack(uint256 task) private pure returns (Status status, uint256 time) {
        // Safe casts: each keeps exactly its own bits.
        return (Status(uint8(task)), uint40(task >> 8));
    }

    function _commitment(ProvenWork memory proven) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(proven.provider, proven.charge, proven.receipt))) & COMMITMENT_MASK;
    }

    /// @dev A task in this state whose proof is this one.
    function _requireProof(TaskTerms calldata terms, ProvenWork calldata proven, Status expected)
        private
        view
        returns (bytes32 taskId, uint256 time)
    {
        taskId = _idOfTask(terms);
        uint256 task = _tasks[taskId];
        time = _requireStatus(task, expected);
        uint256 commitment = _commitment(proven);
        if (commitment != task & COMMITMENT_MASK) {
            revert WrongProof(bytes32(task & COMMITMENT_MASK), bytes32(commitment));
        }
    }

    function _requireStatus(uint256 task, Status expected) private pure returns (uint256 time) {
        Status status;
        (status, time) = _unpack(task);
        if (status != expected) revert WrongStatus(expected, status);
    }

    // ------------------------------------------------------------------ private: errors as values

    // A batch goes on after a row that fails, so checks answer with their error, encoded; empty is good.

    function _failure(bytes4 selector, uint256 expected, uint256 actual) private pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, expected, actual);
    }

    function _failure(bytes4 selector, address expected, address actual) private pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, expected, actual);
    }

    function _revertIf(bytes memory failure) private pure {
        if (failure.length == 0) return;
        assembly ("memory-safe") {
            revert(add(failure, 0x20), mload(failure))
        }
    }
}
