// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title The market: was this task done, and what is it worth
/// @notice A task is its terms: `taskId` is the EIP-712 digest of `TaskTerms`, so nobody can take an id first. The
/// contract keeps one slot a task; whoever acts on a task shows its terms again.
///
///   from          verb                      who                              to
///   nothing       createTask                consumer, or its signature       Open
///   Open          prove (with acceptance)   anyone                           settled, slot cleared
///   nothing       prove (with acceptance)   anyone, consumer's signature     settled, only the nonce remembers
///   Open          proveAlone (with lease)   anyone                           Proven
///   Proven        finalize                  anyone, after the window; or     settled, slot cleared
///                                           at once with acceptance
///   Proven        dispute (with bond)       consumer, in the window          Disputed
///   Disputed      resolve                   the court                        settled or refunded, slot cleared
///   Disputed      endDispute                anyone, after the court's time   settled, slot cleared
///   Open          cancel                    consumer, once                   Open, ending sooner
///   Open          reclaim                   anyone, after the end            refunded, slot cleared
///
/// @dev Only the court can displace a proof that is on chain, and once it is asked, not even an acceptance settles the
/// task before its word: the checkers it drew are paid by one side or the other. In a deployment without a court, terms
/// that ask for verification are refused. "Until t" includes t. A charge is never taken out of the sender's own parameters:
/// it is computed from the terms and the usage, and signatures over any other figure do not fit.
/// When a fork changes the chain id, signatures of before count no more, but tasks of before keep their id for `cancel`,
/// `reclaim` and `finalize`.
interface ITaskMarket {
    // ------------------------------------------------------------------ what is signed

    /// @notice What a consumer asks for and will pay; signed by `consumer`.
    /// @param consumer Pays. May be a contract (EIP-1271).
    /// @param signer May accept results in the consumer's name; zero if none. ECDSA only.
    /// @param dispatcher Assigns providers; zero if none, then only acceptance settles the task.
    /// @param royaltyTo Owner of the app; zero if none.
    /// @param spec Digest of the manifest: image, command, input digest, GPU class, network policy.
    /// @param gpus GPUs the task needs at a time.
    /// @param flat Owed for a proven task, however short.
    /// @param feePerCall Owed for each call.
    /// @param ratePerGpuSecond Owed for each GPU-second, metered in milliseconds.
    /// @param dispatcherBps Dispatcher's share of the charge, in basis points.
    /// @param royaltyBps App owner's share of the charge, in basis points.
    /// @param maxCharge The charge never exceeds it; locked by `createTask`.
    /// @param maxSeconds Longest run.
    /// @param deadline Unix seconds until which a proof may arrive.
    /// @param challengeWindow Seconds between a proof without acceptance and its pay.
    /// @param verification Rule (0 none, 1 equal, 2 tolerance) + 256 * share of the work a checker repeats, in basis
    /// points. Zero if results cannot be disputed.
    /// @param nonce Any number the consumer has not used; each is good for one task.
    struct TaskTerms {
        address consumer;
        address signer;
        address dispatcher;
        address royaltyTo;
        bytes32 spec;
        uint32 gpus;
        uint128 flat;
        uint128 feePerCall;
        uint128 ratePerGpuSecond;
        uint16 dispatcherBps;
        uint16 royaltyBps;
        uint128 maxCharge;
        uint32 maxSeconds;
        uint64 deadline;
        uint32 challengeWindow;
        uint32 verification;
        uint256 nonce;
    }

    /// @notice A dispatcher's time-bound claim of one provider on one task; signed by `terms.dispatcher`.
    struct Assignment {
        bytes32 taskId;
        address provider;
        uint64 fence;
        uint64 leaseFrom;
        uint64 leaseUntil;
    }

    /// @notice A provider's record of its work; signed by the provider or its operator key. For a task: `route` is the
    /// taskId, `seq` the fence, `prev` zero, `request` the spec, `total` the charge.
    struct Receipt {
        address provider;
        bytes32 route;
        uint64 seq;
        bytes32 prev;
        bytes32 request;
        bytes32 result;
        bytes32 gpuSet;
        uint64 startedAtMs;
        uint64 endedAtMs;
        uint64 calls;
        uint64 gpuMs;
        bytes32 usageRoot;
        uint128 total;
    }

    /// @notice The consumer takes the result at this price; signed by the consumer or `terms.signer`.
    struct Acceptance {
        bytes32 taskId;
        uint128 total;
        bytes32 receipt;
    }

    // ------------------------------------------------------------------ what is shown

    /// @notice The fields of a task's receipt that do not follow from its terms. The market puts the receipt together
    /// itself: what is not sent cannot be wrong.
    struct Usage {
        address provider;
        uint64 fence;
        bytes32 result;
        bytes32 gpuSet;
        uint64 startedAtMs;
        uint64 endedAtMs;
        uint64 calls;
        uint64 gpuMs;
        bytes32 usageRoot;
    }

    /// @notice A usage proof that the consumer accepted.
    /// @param terms The task.
    /// @param usage What the provider metered.
    /// @param termsSignature The consumer's over the terms; empty if the task was created, or if the consumer itself (not
    /// `terms.signer`) signed the acceptance.
    /// @param receiptR The provider's or its operator key's over the receipt, in the two words of EIP-2098; both zero if
    /// one of them sends the transaction.
    /// @param receiptVs The second word.
    /// @param acceptance The consumer's or `terms.signer`'s over `Acceptance(taskId, charge, digest of the receipt)`.
    struct AcceptedProof {
        TaskTerms terms;
        Usage usage;
        bytes termsSignature;
        bytes32 receiptR;
        bytes32 receiptVs;
        bytes acceptance;
    }

    /// @notice A usage proof without acceptance, inside a lease.
    /// @param receiptSignature The provider's or its operator key's; never empty.
    /// @param assignment The dispatcher's over `Assignment(taskId, usage.provider, usage.fence, leaseFrom, leaseUntil)`.
    struct LeasedProof {
        TaskTerms terms;
        Usage usage;
        uint64 leaseFrom;
        uint64 leaseUntil;
        bytes receiptSignature;
        bytes assignment;
    }

    /// @notice What a proven task will pay to whom for what, as `TaskProven` told it.
    struct ProvenWork {
        address provider;
        uint128 charge;
        bytes32 receipt;
    }

    /// @notice None also stands for settled and refunded: then the consumer's nonce is used.
    enum Status {
        None,
        Open,
        Proven,
        Disputed
    }

    /// @notice What the court says of a disputed result. Undecided also stands for a court that said nothing in time.
    enum Verdict {
        Undecided,
        Right,
        Wrong
    }

    // ------------------------------------------------------------------ events

    /// @notice `terms.maxCharge` of the consumer is locked for the task.
    event TaskCreated(bytes32 indexed taskId, address indexed consumer, address indexed dispatcher, TaskTerms terms);

    /// @notice A proof without acceptance stands: `charge` stays locked until `challengeEndsAt`, the rest is available.
    event TaskProven(
        bytes32 indexed taskId,
        address indexed consumer,
        address indexed provider,
        uint64 fence,
        uint128 charge,
        bytes32 receipt,
        uint64 challengeEndsAt
    );

    /// @notice Paid. `charge - dispatcherShare - royaltyShare` is the provider's credit. If the task was created, what
    /// was locked for it above `charge` is available again; otherwise `charge` came out of available.
    event TaskSettled(
        bytes32 indexed taskId,
        address indexed consumer,
        address indexed provider,
        uint128 charge,
        bytes32 receipt,
        address dispatcher,
        uint128 dispatcherShare,
        address royaltyTo,
        uint128 royaltyShare
    );

    /// @notice The consumer wants no more of it: proofs arrive until `end`.
    event TaskCancelled(bytes32 indexed taskId, address indexed consumer, uint64 cancelledAt, uint64 end);

    /// @notice The consumer disputes a proof: `bond` of its available is locked beside the charge, and the court has until
    /// `courtEndsAt`.
    event TaskDisputed(
        bytes32 indexed taskId, address indexed consumer, address indexed provider, uint128 bond, uint64 courtEndsAt
    );

    /// @notice The bond is unlocked. Right: `perChecker` of it is credit of each of `checkers`, the rest the provider's.
    /// Otherwise: all of it is available again. In the same transaction `TaskSettled` or, for Wrong, `TaskRefunded` tells
    /// where the charge went.
    event DisputeResolved(
        bytes32 indexed taskId,
        address indexed consumer,
        address indexed provider,
        Verdict verdict,
        uint128 bond,
        uint128 perChecker,
        address[] checkers
    );

    /// @notice Nobody proved it in time, or the court found the result wrong: `amount` is the consumer's again.
    event TaskRefunded(bytes32 indexed taskId, address indexed consumer, uint128 amount);

    /// @notice `proveMany` left this row as it was; `reason` is the error `prove` would have reverted with.
    event ProofSkipped(uint256 indexed row, bytes reason);

    // ------------------------------------------------------------------ errors: expected first, actual second

    /// @dev A word of the calldata has bits above the width of its field.
    error FieldTooWide();
    error InvalidTermsSignature(address expected, address actual);
    error InvalidAcceptanceSignature(address expected, address actual);
    error InvalidReceiptSignature(address expected, address actual);
    error InvalidAssignmentSignature(address expected, address actual);
    error NonceAlreadyUsed(address consumer, uint256 nonce);
    error WrongStatus(Status expected, Status actual);
    error OnlyConsumer(address expected, address actual);
    error SharesTooHigh(uint256 limitBps, uint256 actualBps);
    error ShareWithoutPayee(uint256 shareBps);
    error ChallengeWindowOutOfRange(uint32 shortest, uint32 longest, uint32 actual);
    error VerificationNeedsCourt(uint32 verification);
    /// @dev No such rule, or a share above the whole, or a share of nothing.
    error InvalidVerification(uint32 verification);
    /// @dev The terms ask for no verification.
    error NotDisputable();
    error ChallengeWindowOver(uint64 challengeEndsAt, uint256 actual);
    error BondTooLarge(uint256 limit, uint256 actual);
    error OnlyCourt(address expected, address actual);
    error CourtOver(uint64 courtEndsAt, uint256 actual);
    error CourtNotOver(uint64 courtEndsAt, uint256 actual);
    error DeadlinePassed(uint64 end, uint256 actual);
    error NotEndedYet(uint64 end, uint256 actual);
    error AlreadyCancelled(uint64 cancelledAt);
    error EndedBeforeStart(uint64 startedAtMs, uint64 endedAtMs);
    error EndedInFuture(uint256 latestMs, uint64 endedAtMs);
    error RanTooLong(uint256 limitMs, uint256 actualMs);
    error TooMuchGpuTime(uint256 limitMs, uint256 actualMs);
    error GpuSetMissing(uint32 gpus);
    error TooManyCalls(uint64 limit, uint64 actual);
    error StartedBeforeLease(uint256 leaseFromMs, uint64 startedAtMs);
    error LeaseOver(uint64 lastArrival, uint256 actual);
    error LeaseAfterCancel(uint64 cancelledAt, uint64 leaseFrom);
    error StakeTooLow(uint256 requiredUnits, uint256 actualUnits);
    error ChallengeWindowOpen(uint64 challengeEndsAt, uint256 actual);
    error WrongProof(bytes32 expected, bytes32 actual);
    error NotEnoughGas(uint256 required, uint256 actual);
    error WrongNeighbour(address expected, address actual);
    error UnbondingTooShort(uint256 required, uint256 actual);
    error WindowsOutOfOrder(uint32 shortest, uint32 longest);

    // ------------------------------------------------------------------ asking for work

    /// @notice Lock `terms.maxCharge` and open the task. `signature` is the consumer's over the terms, ignored if the
    /// consumer calls.
    function createTask(TaskTerms calldata terms, bytes calldata signature) external returns (bytes32 taskId);

    /// @notice Consumer, once: the task ends after the cancel period at the latest. Proven without acceptance, only usage
    /// up to now is paid, and the flat fee; a lease in force now is good until the new end.
    function cancel(TaskTerms calldata terms) external;

    /// @notice Anyone, after the end: what was locked is the consumer's again.
    function reclaim(TaskTerms calldata terms) external;

    // ------------------------------------------------------------------ being paid for it

    /// @notice Settle a task the consumer accepted, from Open or from nothing: which of the two is read from the state.
    function prove(AcceptedProof calldata proof) external;

    /// @notice The same, 2,100 gas cheaper for a signed order and 2,100 dearer for a created task.
    function proveOrder(AcceptedProof calldata proof) external;

    /// @notice `prove` each row that can be proven, leave the others as they were and tell why. A row's receipt must be
    /// signed: a batch does not count as sent by the provider.
    /// @return settled For each row, whether it was paid.
    function proveMany(AcceptedProof[] calldata proofs) external returns (bool[] memory settled);

    /// @notice Put a proof without acceptance on chain, inside the lease. Paid by `finalize` after the window.
    function proveAlone(LeasedProof calldata proof) external;

    /// @notice Settle a proven task: anyone after its window; at once with the consumer's or `terms.signer`'s acceptance
    /// of the charge. `acceptance` may be empty after the window.
    function finalize(TaskTerms calldata terms, ProvenWork calldata proven, bytes calldata acceptance) external;

    // ------------------------------------------------------------------ doubting a result

    /// @notice Consumer, inside the challenge window, if the terms ask for verification: lock the bond (`bondOf`) out of
    /// available and ask the court. Refused by the court while too few seats are listed: then the proof stands.
    function dispute(TaskTerms calldata terms, ProvenWork calldata proven) external;

    /// @notice Court only, until its time is over. Right: settled, the bond pays `checkers`, a third each, the rest the
    /// provider. Wrong: charge and bond are the consumer's again. Undecided: settled, and the bond is the consumer's again.
    function resolve(
        TaskTerms calldata terms,
        ProvenWork calldata proven,
        Verdict verdict,
        address[] calldata checkers
    ) external;

    /// @notice Anyone, once the court's time is over without a word of it: settled, and the bond is the consumer's again.
    /// @dev Asks the court nothing: no state of it can hold the money here.
    function endDispute(TaskTerms calldata terms, ProvenWork calldata proven) external;

    // ------------------------------------------------------------------ reading

    /// @notice Where a task stands.
    /// @return status None if unknown, settled or refunded.
    /// @return time Open: when it was cancelled, zero if it was not. Proven: when the challenge window ends. Disputed: when
    /// it was disputed.
    function taskOf(bytes32 taskId) external view returns (Status status, uint64 time);

    function nonceUsed(address consumer, uint256 nonce) external view returns (bool);

    /// @notice The charge for this much usage under these terms, before any cut by a cancel.
    function chargeOf(TaskTerms calldata terms, uint64 calls, uint64 gpuMs) external pure returns (uint128);

    /// @notice What a consumer locks to dispute a charge under these terms: three checkers' share of it, rounded up, and the
    /// floor.
    function bondOf(uint32 verification, uint128 charge) external view returns (uint128);

    /// @notice The receipt that belongs to a usage: what the provider signs and its digest.
    function receiptOf(TaskTerms calldata terms, Usage calldata usage)
        external
        view
        returns (Receipt memory receipt, bytes32 digest);

    /// @notice The taskId.
    function digestOfTaskTerms(TaskTerms calldata terms) external view returns (bytes32);

    function digestOfAssignment(Assignment calldata assignment) external view returns (bytes32);

    function digestOfReceipt(Receipt calldata receipt) external view returns (bytes32);

    function digestOfAcceptance(Acceptance calldata acceptance) external view returns (bytes32);

    function escrow() external view returns (address);

    function staking() external view returns (address);

    /// @notice Zero while this deployment has no court.
    function court() external view returns (address);

    function cancelSeconds() external view returns (uint32);

    function minChallengeSeconds() external view returns (uint32);

    function maxChallengeSeconds() external view returns (uint32);

    function courtSeconds() external view returns (uint32);

    /// @notice The part of a bond that does not depend on the charge.
    function bondFloor() external view returns (uint128);
}
