// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITaskMarket} from "./ITaskMarket.sol";

/// @title The court: who lied
/// @notice Three faults, each slashed with one unit of the provider's stake:
///
///   fault                    evidence                                             once per
///   two histories            two receipts of one provider for one place, or two   provider and route
///                            neighbours on a channel that do not follow
///   one GPU sold twice       two receipts of one provider on different routes,    provider, GPU id and UTC day
///                            one GPU held exclusively for both, at one time
///   wrong result of a task   a dispute: two of three drawn seats say so           task
///
/// The first two are shown by anyone in one call, on signatures alone; a fifth of what is slashed is the reporter's, the
/// rest is burned. A dispute goes like this, every step by anyone but the votes:
///
///   from         verb        when                                       to
///   nothing      open        by the market, inside its `dispute`        Drawing
///   Drawing      draw        after the block fixed before               Sworn: commit, then reveal
///   Sworn        conclude    all revealed, or the reveal is over        concluded; or Drawing, once more, if no two agree
///   Drawing      conclude    no draw can be heard in time any more      concluded, undecided
///
/// @dev Wrong and NoResult speak against the proof, Right and NoInput for it. Whatever happens here, the market itself ends
/// a dispute when the court's time is over: no seat, no block and no fault of this contract holds its money.
/// "Until t" includes t.
interface IDisputeCourt {
    /// @notice A receipt and its provider's or operator key's signature, in the two words of EIP-2098.
    struct SignedReceipt {
        ITaskMarket.Receipt receipt;
        bytes32 r;
        bytes32 vs;
    }

    /// @notice What a checker found when it repeated its share of the work.
    /// @param NoInput The consumer did not hand out the input, so nothing can be held against the provider.
    /// @param NoResult The provider did not hand out the result.
    enum Vote {
        None,
        Right,
        Wrong,
        NoInput,
        NoResult
    }

    enum State {
        None,
        Drawing,
        Sworn
    }

    /// @notice Where a dispute stands.
    /// @param provider Whose result is doubted.
    /// @param openedAt Seats listed before this second can be drawn.
    /// @param round 1, or 2 after a round in which no two agreed.
    /// @param state Whether the round's checkers are drawn.
    /// @param drawBlock The round's checkers follow from the hash of this block, or of the last 256th after it that is past.
    /// @param drawnAt When they were drawn; commit and reveal count from here.
    struct Dispute {
        address provider;
        uint40 openedAt;
        uint8 round;
        State state;
        uint64 drawBlock;
        uint40 drawnAt;
    }

    /// @notice One of a round's three.
    struct Checker {
        address seat;
        Vote vote;
        bytes32 commitment;
    }

    // ------------------------------------------------------------------ events

    /// @notice `provider` signed two histories for `route`; `slashed` of its stake is gone.
    event TwoHistoriesShown(
        address indexed provider, bytes32 indexed route, address indexed reporter, bytes32 offenceId, uint128 slashed
    );

    /// @notice `provider` held one GPU exclusively for two receipts at one time, on this day since 1970 (UTC).
    event GpuSoldTwiceShown(
        address indexed provider,
        bytes32 indexed gpuId,
        address indexed reporter,
        uint64 day,
        bytes32 offenceId,
        uint128 slashed
    );

    /// @notice A unit of `provider`'s stake is set aside; the seat can be listed from `listableAt` on.
    event SeatTaken(address indexed provider, uint64 listableAt);

    /// @notice Disputes opened after this second may draw the seat.
    event SeatListed(address indexed provider, uint256 seats);

    /// @notice `provider` wants its seat back; from `leavableAt` on anyone can free it.
    event SeatLeaving(address indexed provider, uint64 leavableAt);

    /// @notice The stake is no longer set aside, and disputes opened from now on do not draw the seat.
    event SeatFreed(address indexed provider, uint256 seats);

    /// @notice A dispute waits for its checkers, who follow from the hash of `drawBlock`.
    event DrawCalled(bytes32 indexed taskId, uint8 round, uint64 drawBlock, uint64 lastDrawAt);

    /// @notice These three commit until `commitEndsAt`, then reveal until `revealEndsAt`.
    event CheckersDrawn(
        bytes32 indexed taskId, uint8 round, address[3] checkers, uint64 commitEndsAt, uint64 revealEndsAt
    );

    event VoteCommitted(bytes32 indexed taskId, address indexed checker, uint8 round, bytes32 commitment);

    event VoteRevealed(bytes32 indexed taskId, address indexed checker, uint8 round, Vote vote);

    /// @notice A checker of a round without a majority said nothing.
    event SilenceShown(bytes32 indexed taskId, address indexed checker, uint8 round, uint128 slashed);

    /// @notice The court's last word. Wrong: `slashed` of the provider's stake is gone, a fifth of it to `checkers`.
    event DisputeConcluded(
        bytes32 indexed taskId,
        address indexed provider,
        ITaskMarket.Verdict verdict,
        address[] checkers,
        uint128 slashed
    );

    // ------------------------------------------------------------------ errors: expected first, actual second

    error DifferentProviders(address one, address other);
    error DifferentRoutes(bytes32 one, bytes32 other);
    error SameRoute(bytes32 route);
    error DifferentPlaces(uint64 one, uint64 other);
    error SameReceipt(bytes32 digest);
    /// @dev The route is no channel of this provider with these fields.
    error WrongChannel(bytes32 expected, bytes32 actual);
    error NotNeighbours(uint256 expectedSeq, uint64 actualSeq);
    /// @dev The later receipt names the earlier one and its total does not fall: no fault.
    error ReceiptsFollow(bytes32 earlier, bytes32 later);
    /// @dev Not signed by the provider or a key it answers for.
    error NotAnswerable(address provider, address signer);
    error ReceiptTooOld(uint256 earliestEndMs, uint64 endedAtMs);
    error GpuNotInSet(bytes32 gpuSet, bytes32 gpuId);
    error OverlapTooShort(uint256 requiredMs, uint256 actualMs);
    error SeatAlreadyTaken(address provider);
    error NoSeat(address provider);
    error SeatAlreadyListed(address provider);
    error SeatIsLeaving(address provider);
    error SeatNotLeaving(address provider);
    error TooSoon(uint64 earliest, uint256 actual);
    error SeatJailed(address provider);
    error NotJailed(address provider);
    error OnlyMarket(address expected, address actual);
    error TooFewSeats(uint256 required, uint256 actual);
    error UnknownDispute(bytes32 taskId);
    error WrongState(State expected, State actual);
    error DrawBlockAhead(uint256 drawBlock, uint256 actual);
    error DrawTooLate(uint64 lastDrawAt, uint256 actual);
    error DrawStillPossible(uint64 lastDrawAt, uint256 actual);
    error NotDrawn(bytes32 taskId, address checker);
    error OnlyChecker(address expected, address actual);
    error EmptyCommitment();
    error AlreadyCommitted(address checker);
    error CommitOver(uint64 commitEndsAt, uint256 actual);
    error CommitNotOver(uint64 commitEndsAt, uint256 actual);
    error RevealOver(uint64 revealEndsAt, uint256 actual);
    error RevealNotOver(uint64 revealEndsAt, uint256 actual);
    error WrongReveal(bytes32 expected, bytes32 actual);
    error NoVote();
    error WrongNeighbour(address expected, address actual);
    error CourtTooShort(uint256 required, uint256 actual);

    // ------------------------------------------------------------------ faults on signatures alone

    /// @notice Anyone: two receipts of one provider for the same route and seq, with different digests.
    /// @return slashed What the provider lost; nothing if it had nothing. Reverts if this route was punished before.
    function reportTwoHistories(SignedReceipt calldata one, SignedReceipt calldata other)
        external
        returns (uint128 slashed);

    /// @notice Anyone: seq n and n + 1 of a channel, shown by its fields, where the later does not name the earlier as its
    /// `prev`, or its total falls. The same offence as two receipts for one place of that channel.
    function reportBrokenChain(
        address payer,
        address signer,
        uint96 salt,
        SignedReceipt calldata earlier,
        SignedReceipt calldata later
    ) external returns (uint128 slashed);

    /// @notice Anyone: two receipts of one provider on different routes, one GPU in both gpuSets, and more than 2 seconds at
    /// which both ran. The day is the one in which both first ran, so that one overlap is one offence.
    /// @param proofOne OpenZeppelin's `MerkleProof`, of the double-hashed leaf `gpuId` in `one.receipt.gpuSet`.
    function reportGpuSoldTwice(
        SignedReceipt calldata one,
        SignedReceipt calldata other,
        bytes32 gpuId,
        bytes32[] calldata proofOne,
        bytes32[] calldata proofOther
    ) external returns (uint128 slashed);

    // ------------------------------------------------------------------ seats

    /// @notice Set one unit of the caller's own bonded stake aside, to check results of others. One seat a provider.
    function takeSeat() external;

    /// @notice Anyone, a day after it was taken: the seat can be drawn.
    function listSeat(address provider) external;

    /// @notice The caller's seat ends in a day. Disputes opened until it is freed may still draw it.
    function leaveSeat() external;

    /// @notice Anyone, a day after it was left: the stake is free.
    function freeSeat(address provider) external;

    /// @notice Anyone: a jailed provider has no seat.
    function dismissSeat(address provider) external;

    // ------------------------------------------------------------------ a dispute

    /// @notice Market only: the consumer of `terms` doubts the result of `provider`.
    function open(bytes32 taskId, ITaskMarket.TaskTerms calldata terms, address provider) external;

    /// @notice Anyone: draw three of the seats that were listed when the dispute opened. Whom the terms pay or name, and
    /// who is jailed, is passed over.
    function draw(ITaskMarket.TaskTerms calldata terms) external returns (address[3] memory checkers);

    /// @notice A drawn checker or its operator key: `commitmentOf` its vote, until the commit is over.
    function commit(bytes32 taskId, address checker, bytes32 commitment) external;

    /// @notice Anyone who knows the salt, after the commit and until the reveal is over.
    function reveal(bytes32 taskId, address checker, Vote vote, bytes32 salt) external;

    /// @notice Anyone: tell the market what two of three said; draw once more if no two agree; give up if it is too late.
    /// @param proven As `TaskProven` told it.
    function conclude(ITaskMarket.TaskTerms calldata terms, ITaskMarket.ProvenWork calldata proven) external;

    // ------------------------------------------------------------------ reading

    /// @notice State None: unknown or concluded.
    function disputeOf(bytes32 taskId) external view returns (Dispute memory);

    /// @notice The three of a round, zeros before they are drawn.
    function checkersOf(bytes32 taskId, uint8 round) external view returns (Checker[3] memory);

    /// @notice When a dispute's present round takes its last draw, commitment and reveal; the last two zero while it waits
    /// for its draw.
    function timesOf(bytes32 taskId) external view returns (uint64 lastDrawAt, uint64 commitEndsAt, uint64 revealEndsAt);

    /// @notice `listableAt` zero: no seat. `leavableAt` zero: not leaving.
    function seatOf(address provider) external view returns (uint64 listableAt, uint64 leavableAt, bool listed);

    /// @notice How many seats are listed.
    function seats() external view returns (uint256);

    function commitmentOf(Vote vote, bytes32 salt, address checker, bytes32 taskId) external pure returns (bytes32);

    function offenceOfRoute(address provider, bytes32 route) external pure returns (bytes32);

    /// @param day Days since 1970 (UTC) until the moment in which both receipts first ran.
    function offenceOfGpu(address provider, bytes32 gpuId, uint64 day) external pure returns (bytes32);

    function offenceOfTask(bytes32 taskId) external pure returns (bytes32);

    function offenceOfSilence(bytes32 taskId, address checker, uint8 round) external pure returns (bytes32);

    function market() external view returns (address);

    function staking() external view returns (address);

    function commitSeconds() external view returns (uint32);

    function revealSeconds() external view returns (uint32);

    function seatSeconds() external view returns (uint32);
}
