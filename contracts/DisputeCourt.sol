// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Checkpoints} from "@openzeppelin/contracts/utils/structs/Checkpoints.sol";
import {IDisputeCourt} from "./interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "./interfaces/IProviderStaking.sol";
import {ITaskMarket} from "./interfaces/ITaskMarket.sol";
import {MessageHash} from "./libraries/MessageHash.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {TallystickDomain} from "./libraries/TallystickDomain.sol";

/// @title The court: who lied
/// @dev Holds no money. Only the staking and the market are called, after everything here is written.
contract DisputeCourt is IDisputeCourt, TallystickDomain {
    using Checkpoints for Checkpoints.Trace160;
    using MessageHash for ITaskMarket.Receipt;
    using MessageHash for ITaskMarket.TaskTerms;

    uint256 private constant MS_PER_DAY = 86_400_000;

    /// @notice Two clocks of one machine, or the hand-over of a GPU, may differ by this much.
    uint256 private constant OVERLAP_ALLOWED_MS = 2000;

    uint256 private constant CHECKERS = 3;

    /// @notice How many say what becomes of a task.
    uint256 private constant MAJORITY = 2;

    /// @notice A silent seat loses one part in this many of a unit.
    uint128 private constant SILENCE_PARTS = 10;

    uint8 private constant LAST_ROUND = 2;

    /// @notice Nobody knows the hash of a block that is this far ahead.
    uint64 private constant DRAW_DELAY_BLOCKS = 8;

    /// @notice How many hashes of past blocks the chain remembers.
    uint256 private constant REMEMBERED_BLOCKS = 256;

    /// @notice How many seats a draw looks at before it gives up on this block's hash.
    uint256 private constant DRAW_TRIES = 32;

    /// @param commitSeconds How long checkers may repeat the work and commit.
    /// @param revealSeconds How long they may reveal.
    /// @param seatSeconds How long it takes to take a seat, or to leave it.
    struct Windows {
        uint32 commitSeconds;
        uint32 revealSeconds;
        uint32 seatSeconds;
    }

    struct Seat {
        uint40 listableAt;
        uint40 leavableAt;
        // Its place in the list, counted from 1; zero while it is not listed.
        uint32 place;
    }

    ITaskMarket private immutable _market;
    IProviderStaking private immutable _staking;
    uint256 private immutable _courtSeconds;
    uint256 private immutable _unbondingSeconds;
    uint128 private immutable _unit;

    /// @inheritdoc IDisputeCourt
    uint32 public immutable commitSeconds;

    /// @inheritdoc IDisputeCourt
    uint32 public immutable revealSeconds;

    /// @inheritdoc IDisputeCourt
    uint32 public immutable seatSeconds;

    mapping(address provider => Seat) private _seats;

    /// @dev The list of seats at any second: how many there were, and who had each place. A change touches two places,
    /// however long the list is.
    Checkpoints.Trace160 private _listed;
    mapping(uint256 place => Checkpoints.Trace160) private _holders;

    mapping(bytes32 taskId => Dispute) private _disputes;
    mapping(bytes32 taskId => mapping(uint8 round => Checker[3])) private _checkers;

    /// @param escrow_ Only for the signing domain that a deployment shares.
    constructor(address market_, address staking_, address escrow_, Windows memory windows) TallystickDomain(escrow_) {
        _market = ITaskMarket(market_);
        _staking = IProviderStaking(staking_);
        _requireNeighbour(address(this), _market.court());
        _requireNeighbour(staking_, _market.staking());
        _requireNeighbour(escrow_, _market.escrow());
        _requireNeighbour(address(this), _staking.court());

        _courtSeconds = _market.courtSeconds();
        _unbondingSeconds = _staking.unbondingSeconds();
        _unit = _staking.unit();
        commitSeconds = windows.commitSeconds;
        revealSeconds = windows.revealSeconds;
        seatSeconds = windows.seatSeconds;
        // Two rounds, then as long as a commit takes to bring the verdict to the market, and something over for the draws.
        uint256 required = uint256(windows.commitSeconds) * 3 + uint256(windows.revealSeconds) * 2 + 1;
        if (_courtSeconds < required) revert CourtTooShort(required, _courtSeconds);
    }

    // ------------------------------------------------------------------ anyone shows a fault

    /// @inheritdoc IDisputeCourt
    function reportTwoHistories(SignedReceipt calldata one, SignedReceipt calldata other)
        external
        returns (uint128 slashed)
    {
        bytes32 route = one.receipt.route;
        if (other.receipt.route != route) revert DifferentRoutes(route, other.receipt.route);
        if (one.receipt.seq != other.receipt.seq) revert DifferentPlaces(one.receipt.seq, other.receipt.seq);
        (bytes32 digest, bytes32 otherDigest) = _requireAnswerable(one, other);
        if (digest == otherDigest) revert SameReceipt(digest);
        return _punishTwoHistories(one.receipt.provider, route);
    }

    /// @inheritdoc IDisputeCourt
    function reportBrokenChain(
        address payer,
        address signer,
        uint96 salt,
        SignedReceipt calldata earlier,
        SignedReceipt calldata later
    ) external returns (uint128 slashed) {
        address provider = earlier.receipt.provider;
        // A task's receipts have no chain: their route is no channel's id.
        bytes32 channelId = keccak256(abi.encode(payer, signer, provider, salt));
        _requireRoute(channelId, earlier.receipt.route);
        _requireRoute(channelId, later.receipt.route);
        uint256 expectedSeq = uint256(earlier.receipt.seq) + 1;
        if (later.receipt.seq != expectedSeq) revert NotNeighbours(expectedSeq, later.receipt.seq);
        (bytes32 digest, bytes32 laterDigest) = _requireAnswerable(earlier, later);
        if (later.receipt.total >= earlier.receipt.total) {
            // The earlier receipt may have been signed before a fork changed the chain id.
            bytes32 prev = later.receipt.prev;
            if (prev == digest || prev == _digestAtDeployment(earlier.receipt.hash())) {
                revert ReceiptsFollow(digest, laterDigest);
            }
        }
        return _punishTwoHistories(provider, channelId);
    }

    /// @inheritdoc IDisputeCourt
    function reportGpuSoldTwice(
        SignedReceipt calldata one,
        SignedReceipt calldata other,
        bytes32 gpuId,
        bytes32[] calldata proofOne,
        bytes32[] calldata proofOther
    ) external returns (uint128 slashed) {
        if (one.receipt.route == other.receipt.route) revert SameRoute(one.receipt.route);
        _requireAnswerable(one, other);
        _requireGpu(one.receipt.gpuSet, gpuId, proofOne);
        _requireGpu(other.receipt.gpuSet, gpuId, proofOther);
        uint256 from = _max(one.receipt.startedAtMs, other.receipt.startedAtMs);
        uint256 until = _min(one.receipt.endedAtMs, other.receipt.endedAtMs);
        uint256 overlapMs = until > from ? until - from : 0;
        if (overlapMs <= OVERLAP_ALLOWED_MS) revert OverlapTooShort(OVERLAP_ALLOWED_MS + 1, overlapMs);

        address provider = one.receipt.provider;
        // Safe cast: 64 bits divided.
        uint64 day = uint64(from / MS_PER_DAY);
        bytes32 offenceId = offenceOfGpu(provider, gpuId, day);
        slashed = _staking.slash(provider, _unit, offenceId, _only(msg.sender));
        emit GpuSoldTwiceShown(provider, gpuId, msg.sender, day, offenceId, slashed);
    }

    // ------------------------------------------------------------------ a provider offers to check others

    /// @inheritdoc IDisputeCourt
    function takeSeat() external {
        Seat storage seat = _seats[msg.sender];
        if (seat.listableAt != 0) revert SeatAlreadyTaken(msg.sender);
        _requireNotJailed(msg.sender);
        // Safe cast: a block's time plus 32 bits of seconds.
        uint40 listableAt = uint40(block.timestamp + seatSeconds);
        seat.listableAt = listableAt;
        emit SeatTaken(msg.sender, listableAt);
        _staking.setSeats(msg.sender, 1);
    }

    /// @inheritdoc IDisputeCourt
    function listSeat(address provider) external {
        Seat storage seat = _requireSeat(provider);
        if (seat.place != 0) revert SeatAlreadyListed(provider);
        if (seat.leavableAt != 0) revert SeatIsLeaving(provider);
        if (block.timestamp < seat.listableAt) revert TooSoon(seat.listableAt, block.timestamp);
        _requireNotJailed(provider);

        uint256 place = seats() + 1;
        // Safe cast: nobody pays for 2^32 seats.
        seat.place = uint32(place);
        _setHolder(place, provider);
        _setListed(place);
        emit SeatListed(provider, place);
    }

    /// @inheritdoc IDisputeCourt
    function leaveSeat() external {
        Seat storage seat = _requireSeat(msg.sender);
        if (seat.leavableAt != 0) revert SeatIsLeaving(msg.sender);
        // Safe cast: a block's time plus 32 bits of seconds.
        uint40 leavableAt = uint40(block.timestamp + seatSeconds);
        seat.leavableAt = leavableAt;
        emit SeatLeaving(msg.sender, leavableAt);
    }

    /// @inheritdoc IDisputeCourt
    function freeSeat(address provider) external {
        Seat storage seat = _requireSeat(provider);
        if (seat.leavableAt == 0) revert SeatNotLeaving(provider);
        if (block.timestamp < seat.leavableAt) revert TooSoon(seat.leavableAt, block.timestamp);
        _endSeat(provider, seat);
    }

    /// @inheritdoc IDisputeCourt
    function dismissSeat(address provider) external {
        Seat storage seat = _requireSeat(provider);
        if (!_staking.isJailed(provider)) revert NotJailed(provider);
        _endSeat(provider, seat);
    }

    // ------------------------------------------------------------------ a dispute goes round

    /// @inheritdoc IDisputeCourt
    function open(bytes32 taskId, ITaskMarket.TaskTerms calldata terms, address provider) external {
        if (msg.sender != address(_market)) revert OnlyMarket(address(_market), msg.sender);
        uint256 eligible = _seatsWithout(_partiesOf(terms, provider));
        if (eligible < CHECKERS) revert TooFewSeats(CHECKERS, eligible);
        Dispute storage dispute = _disputes[taskId];
        dispute.provider = provider;
        // Safe cast: a block's time.
        dispute.openedAt = uint40(block.timestamp);
        _callDraw(taskId, dispute, 1);
    }

    /// @inheritdoc IDisputeCourt
    function draw(ITaskMarket.TaskTerms calldata terms) external returns (address[3] memory checkers) {
        (bytes32 taskId, Dispute storage dispute) = _disputeFor(terms);
        if (dispute.state != State.Drawing) revert WrongState(State.Drawing, dispute.state);
        uint64 lastDrawAt = _lastDrawAt(dispute);
        if (block.timestamp > lastDrawAt) revert DrawTooLate(lastDrawAt, block.timestamp);

        uint8 round = dispute.round;
        bytes32 seed = keccak256(abi.encode(_hashForDraw(dispute.drawBlock), taskId, round));
        checkers = _drawSeats(seed, dispute.openedAt, _partiesOf(terms, dispute.provider));
        dispute.state = State.Sworn;
        // Safe cast: a block's time.
        dispute.drawnAt = uint40(block.timestamp);
        for (uint256 i; i < CHECKERS; ++i) {
            _checkers[taskId][round][i].seat = checkers[i];
        }
        emit CheckersDrawn(taskId, round, checkers, _commitEndsAt(dispute), _revealEndsAt(dispute));
    }

    /// @inheritdoc IDisputeCourt
    function commit(bytes32 taskId, address checker, bytes32 commitment) external {
        if (msg.sender != checker && !_staking.signsFor(msg.sender, checker)) revert OnlyChecker(checker, msg.sender);
        if (commitment == 0) revert EmptyCommitment();
        Dispute storage dispute = _requireSworn(taskId);
        Checker storage drawn = _requireDrawn(taskId, dispute.round, checker);
        uint64 commitEndsAt = _commitEndsAt(dispute);
        if (block.timestamp > commitEndsAt) revert CommitOver(commitEndsAt, block.timestamp);
        if (drawn.commitment != 0) revert AlreadyCommitted(checker);
        drawn.commitment = commitment;
        emit VoteCommitted(taskId, checker, dispute.round, commitment);
    }

    /// @inheritdoc IDisputeCourt
    function reveal(bytes32 taskId, address checker, Vote vote, bytes32 salt) external {
        if (vote == Vote.None) revert NoVote();
        Dispute storage dispute = _requireSworn(taskId);
        Checker storage drawn = _requireDrawn(taskId, dispute.round, checker);
        uint64 commitEndsAt = _commitEndsAt(dispute);
        if (block.timestamp <= commitEndsAt) revert CommitNotOver(commitEndsAt, block.timestamp);
        uint64 revealEndsAt = _revealEndsAt(dispute);
        if (block.timestamp > revealEndsAt) revert RevealOver(revealEndsAt, block.timestamp);
        bytes32 commitment = commitmentOf(vote, salt, checker, taskId);
        if (commitment != drawn.commitment) revert WrongReveal(drawn.commitment, commitment);
        drawn.vote = vote;
        emit VoteRevealed(taskId, checker, dispute.round, vote);
    }

    /// @inheritdoc IDisputeCourt
    function conclude(ITaskMarket.TaskTerms calldata terms, ITaskMarket.ProvenWork calldata proven) external {
        (bytes32 taskId, Dispute storage stored) = _disputeFor(terms);
        Dispute memory dispute = stored;
        uint64 lastDrawAt = _lastDrawAt(dispute);
        bool drawPossible = block.timestamp <= lastDrawAt;
        if (dispute.state == State.Drawing) {
            if (drawPossible) revert DrawStillPossible(lastDrawAt, block.timestamp);
            delete _disputes[taskId];
            _tellMarket(taskId, dispute, terms, proven, ITaskMarket.Verdict.Undecided, new address[](0));
            return;
        }

        Checker[3] memory drawn = _checkers[taskId][dispute.round];
        (ITaskMarket.Verdict verdict, address[] memory majority, address[] memory silent) = _count(drawn);
        // Whoever has not spoken may still, until the reveal is over: a third voice has its share of the pay.
        uint64 revealEndsAt = _revealEndsAt(dispute);
        if (silent.length != 0 && block.timestamp <= revealEndsAt) {
            revert RevealNotOver(revealEndsAt, block.timestamp);
        }
        bool undecided = verdict == ITaskMarket.Verdict.Undecided;
        bool again = undecided && dispute.round < LAST_ROUND && drawPossible;
        if (again) _callDraw(taskId, stored, dispute.round + 1);
        else delete _disputes[taskId];

        if (undecided) _punishSilence(taskId, dispute.round, silent);
        if (!again) _tellMarket(taskId, dispute, terms, proven, verdict, majority);
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc IDisputeCourt
    function disputeOf(bytes32 taskId) external view returns (Dispute memory) {
        return _disputes[taskId];
    }

    /// @inheritdoc IDisputeCourt
    function checkersOf(bytes32 taskId, uint8 round) external view returns (Checker[3] memory) {
        return _checkers[taskId][round];
    }

    /// @inheritdoc IDisputeCourt
    function timesOf(bytes32 taskId)
        external
        view
        returns (uint64 lastDrawAt, uint64 commitEndsAt, uint64 revealEndsAt)
    {
        Dispute memory dispute = _disputes[taskId];
        if (dispute.state == State.None) revert UnknownDispute(taskId);
        lastDrawAt = _lastDrawAt(dispute);
        if (dispute.state == State.Drawing) return (lastDrawAt, 0, 0);
        return (lastDrawAt, _commitEndsAt(dispute), _revealEndsAt(dispute));
    }

    /// @inheritdoc IDisputeCourt
    function seatOf(address provider) external view returns (uint64 listableAt, uint64 leavableAt, bool listed) {
        Seat storage seat = _seats[provider];
        return (seat.listableAt, seat.leavableAt, seat.place != 0);
    }

    /// @inheritdoc IDisputeCourt
    function seats() public view returns (uint256) {
        return _listed.latest();
    }

    /// @inheritdoc IDisputeCourt
    function commitmentOf(Vote vote, bytes32 salt, address checker, bytes32 taskId) public pure returns (bytes32) {
        return keccak256(abi.encode(vote, salt, checker, taskId));
    }

    /// @inheritdoc IDisputeCourt
    function offenceOfRoute(address provider, bytes32 route) public pure returns (bytes32) {
        return keccak256(abi.encode("two histories", provider, route));
    }

    /// @inheritdoc IDisputeCourt
    function offenceOfGpu(address provider, bytes32 gpuId, uint64 day) public pure returns (bytes32) {
        return keccak256(abi.encode("one GPU sold twice", provider, gpuId, day));
    }

    /// @inheritdoc IDisputeCourt
    function offenceOfTask(bytes32 taskId) public pure returns (bytes32) {
        return keccak256(abi.encode("wrong result", taskId));
    }

    /// @inheritdoc IDisputeCourt
    function offenceOfSilence(bytes32 taskId, address checker, uint8 round) public pure returns (bytes32) {
        return keccak256(abi.encode("silent seat", taskId, checker, round));
    }

    /// @inheritdoc IDisputeCourt
    function market() external view returns (address) {
        return address(_market);
    }

    /// @inheritdoc IDisputeCourt
    function staking() external view returns (address) {
        return address(_staking);
    }

    // ------------------------------------------------------------------ private: receipts

    /// @dev Both are of one provider, which answers for both signatures, and neither is void by its age.
    function _requireAnswerable(SignedReceipt calldata one, SignedReceipt calldata other)
        private
        view
        returns (bytes32 digest, bytes32 otherDigest)
    {
        address provider = one.receipt.provider;
        if (other.receipt.provider != provider) revert DifferentProviders(provider, other.receipt.provider);
        _requireYoung(one.receipt.endedAtMs);
        _requireYoung(other.receipt.endedAtMs);
        digest = _digest(one.receipt.hash());
        otherDigest = _digest(other.receipt.hash());
        address signer = Signatures.recover(digest, one.r, one.vs);
        _requireAnswersFor(provider, signer);
        address otherSigner = Signatures.recover(otherDigest, other.r, other.vs);
        if (otherSigner != signer) _requireAnswersFor(provider, otherSigner);
    }

    function _requireAnswersFor(address provider, address signer) private view {
        // A signature that is none recovers to zero, for which nobody answers.
        if (!_staking.answersFor(provider, signer)) revert NotAnswerable(provider, signer);
    }

    function _requireYoung(uint64 endedAtMs) private view {
        uint256 earliestEndMs =
            block.timestamp > _unbondingSeconds ? (block.timestamp - _unbondingSeconds) * 1000 : 0;
        if (endedAtMs < earliestEndMs) revert ReceiptTooOld(earliestEndMs, endedAtMs);
    }

    function _requireRoute(bytes32 expected, bytes32 actual) private pure {
        if (actual != expected) revert WrongChannel(expected, actual);
    }

    function _requireGpu(bytes32 gpuSet, bytes32 gpuId, bytes32[] calldata proof) private pure {
        // Hashed twice: no inner node passes as a leaf. A set of none is zero, which no leaf hashes to.
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(gpuId))));
        if (!MerkleProof.verifyCalldata(proof, gpuSet, leaf)) revert GpuNotInSet(gpuSet, gpuId);
    }

    function _punishTwoHistories(address provider, bytes32 route) private returns (uint128 slashed) {
        bytes32 offenceId = offenceOfRoute(provider, route);
        slashed = _staking.slash(provider, _unit, offenceId, _only(msg.sender));
        emit TwoHistoriesShown(provider, route, msg.sender, offenceId, slashed);
    }

    // ------------------------------------------------------------------ private: seats

    function _endSeat(address provider, Seat storage seat) private {
        uint256 place = seat.place;
        uint256 count = seats();
        delete _seats[provider];
        if (place != 0) {
            // The last one takes the place that is free. What the list was before stays written.
            if (place != count) {
                address last = address(_holders[count].latest());
                // Safe cast: a place of the list.
                _seats[last].place = uint32(place);
                _setHolder(place, last);
            }
            _setListed(--count);
        }
        emit SeatFreed(provider, count);
        _staking.setSeats(provider, 0);
    }

    function _setHolder(uint256 place, address provider) private {
        _holders[place].push(uint96(block.timestamp), uint160(provider));
    }

    function _setListed(uint256 count) private {
        // Safe casts: a block's time, and no more seats than units of stake.
        _listed.push(uint96(block.timestamp), uint160(count));
    }

    /// @dev How many can be drawn in a dispute that opens now.
    function _seatsWithout(address[5] memory parties) private view returns (uint256 eligible) {
        eligible = _listed.upperLookupRecent(uint96(block.timestamp - 1));
        for (uint256 i; i < parties.length; ++i) {
            if (_seats[parties[i]].place == 0 || eligible == 0) continue;
            bool again;
            for (uint256 j; j < i; ++j) {
                again = again || parties[j] == parties[i];
            }
            if (!again) --eligible;
        }
    }

    /// @dev Whom a verdict would pay or spare.
    function _partiesOf(ITaskMarket.TaskTerms calldata terms, address provider)
        private
        pure
        returns (address[5] memory)
    {
        return [terms.consumer, terms.signer, terms.dispatcher, terms.royaltyTo, provider];
    }

    // ------------------------------------------------------------------ private: the draw

    function _callDraw(bytes32 taskId, Dispute storage dispute, uint8 round) private {
        // Safe cast: a block's number.
        uint64 drawBlock = uint64(block.number) + DRAW_DELAY_BLOCKS;
        dispute.round = round;
        dispute.state = State.Drawing;
        dispute.drawBlock = drawBlock;
        dispute.drawnAt = 0;
        emit DrawCalled(taskId, round, drawBlock, _lastDrawAt(dispute));
    }

    /// @dev The hash of the draw block; once the chain has forgotten it, of the 256th after it, and so on: one that is
    /// remembered always exists, and nobody chooses which it is but by letting 256 blocks go by.
    function _hashForDraw(uint256 drawBlock) private view returns (bytes32) {
        if (block.number <= drawBlock) revert DrawBlockAhead(drawBlock, block.number);
        // Just compared.
        unchecked {
            return blockhash(drawBlock + (block.number - 1 - drawBlock) / REMEMBERED_BLOCKS * REMEMBERED_BLOCKS);
        }
    }

    /// @dev Shuffles the list as it was before the dispute, as far as needed, and takes the first three that may judge.
    function _drawSeats(bytes32 seed, uint256 openedAt, address[5] memory parties)
        private
        view
        returns (address[3] memory checkers)
    {
        uint96 before = uint96(openedAt - 1);
        uint256 count = _listed.upperLookupRecent(before);
        uint256 tries = _min(count, DRAW_TRIES);
        // Places that were moved in the shuffle: what stands at `moved[i]` is `place[i]`.
        uint256[] memory moved = new uint256[](tries);
        uint256[] memory place = new uint256[](tries);
        uint256 found;
        for (uint256 i; i < tries && found < CHECKERS; ++i) {
            uint256 pick = i + uint256(keccak256(abi.encode(seed, i))) % (count - i);
            uint256 at = _standsAt(pick, moved, place, i);
            moved[i] = pick;
            place[i] = _standsAt(i, moved, place, i);
            // Places count from 1.
            address seat = address(_holders[at + 1].upperLookupRecent(before));
            if (_isAmong(seat, parties) || _staking.isJailed(seat)) continue;
            checkers[found++] = seat;
        }
        if (found < CHECKERS) revert TooFewSeats(CHECKERS, found);
    }

    /// @dev The last move to a place counts; a place that was not moved to holds its own number.
    function _standsAt(uint256 position, uint256[] memory moved, uint256[] memory place, uint256 length)
        private
        pure
        returns (uint256)
    {
        for (uint256 i = length; i > 0; --i) {
            if (moved[i - 1] == position) return place[i - 1];
        }
        return position;
    }

    function _isAmong(address seat, address[5] memory parties) private pure returns (bool) {
        for (uint256 i; i < parties.length; ++i) {
            if (parties[i] == seat) return true;
        }
        return false;
    }

    // ------------------------------------------------------------------ private: the verdict

    function _count(Checker[3] memory drawn)
        private
        pure
        returns (ITaskMarket.Verdict verdict, address[] memory majority, address[] memory silent)
    {
        address[] memory right = new address[](CHECKERS);
        address[] memory wrong = new address[](CHECKERS);
        silent = new address[](CHECKERS);
        uint256 rights;
        uint256 wrongs;
        uint256 silents;
        for (uint256 i; i < CHECKERS; ++i) {
            Vote vote = drawn[i].vote;
            if (vote == Vote.None) silent[silents++] = drawn[i].seat;
            else if (vote == Vote.Right || vote == Vote.NoInput) right[rights++] = drawn[i].seat;
            else wrong[wrongs++] = drawn[i].seat;
        }
        _shorten(silent, silents);
        if (rights >= MAJORITY) {
            verdict = ITaskMarket.Verdict.Right;
            majority = _shorten(right, rights);
        } else if (wrongs >= MAJORITY) {
            verdict = ITaskMarket.Verdict.Wrong;
            majority = _shorten(wrong, wrongs);
        }
    }

    function _tellMarket(
        bytes32 taskId,
        Dispute memory dispute,
        ITaskMarket.TaskTerms calldata terms,
        ITaskMarket.ProvenWork calldata proven,
        ITaskMarket.Verdict verdict,
        address[] memory majority
    ) private {
        _market.resolve(terms, proven, verdict, majority);
        uint128 slashed;
        if (verdict == ITaskMarket.Verdict.Wrong) {
            slashed = _staking.slash(dispute.provider, _unit, offenceOfTask(taskId), majority);
        }
        emit DisputeConcluded(taskId, dispute.provider, verdict, majority, slashed);
    }

    function _punishSilence(bytes32 taskId, uint8 round, address[] memory silent) private {
        uint128 amount = _unit / SILENCE_PARTS;
        for (uint256 i; i < silent.length; ++i) {
            bytes32 offenceId = offenceOfSilence(taskId, silent[i], round);
            uint128 slashed = _staking.slash(silent[i], amount, offenceId, new address[](0));
            emit SilenceShown(taskId, silent[i], round, slashed);
        }
    }

    // ------------------------------------------------------------------ private: what must hold

    function _requireNeighbour(address expected, address actual) private pure {
        if (actual != expected) revert WrongNeighbour(expected, actual);
    }

    function _requireSeat(address provider) private view returns (Seat storage seat) {
        seat = _seats[provider];
        if (seat.listableAt == 0) revert NoSeat(provider);
    }

    function _requireNotJailed(address provider) private view {
        if (_staking.isJailed(provider)) revert SeatJailed(provider);
    }

    /// @dev As in the market, a task of before a fork is found under its id of then.
    function _disputeFor(ITaskMarket.TaskTerms calldata terms)
        private
        view
        returns (bytes32 taskId, Dispute storage dispute)
    {
        bytes32 structHash = terms.hash();
        taskId = _digest(structHash);
        if (_disputes[taskId].state == State.None) taskId = _digestAtDeployment(structHash);
        dispute = _disputes[taskId];
        if (dispute.state == State.None) revert UnknownDispute(taskId);
    }

    function _requireSworn(bytes32 taskId) private view returns (Dispute storage dispute) {
        dispute = _disputes[taskId];
        if (dispute.state != State.Sworn) revert WrongState(State.Sworn, dispute.state);
    }

    function _requireDrawn(bytes32 taskId, uint8 round, address checker) private view returns (Checker storage) {
        Checker[3] storage drawn = _checkers[taskId][round];
        for (uint256 i; i < CHECKERS; ++i) {
            if (drawn[i].seat == checker) return drawn[i];
        }
        revert NotDrawn(taskId, checker);
    }

    // ------------------------------------------------------------------ private: times

    // Safe casts: 40 bits of seconds and a few numbers of 32.

    /// @dev After it a round could not be heard, and its verdict brought to the market, before the court's time is over.
    function _lastDrawAt(Dispute memory dispute) private view returns (uint64) {
        return uint64(dispute.openedAt + _courtSeconds - 2 * uint256(commitSeconds) - revealSeconds);
    }

    function _commitEndsAt(Dispute memory dispute) private view returns (uint64) {
        return uint64(uint256(dispute.drawnAt) + commitSeconds);
    }

    function _revealEndsAt(Dispute memory dispute) private view returns (uint64) {
        return _commitEndsAt(dispute) + revealSeconds;
    }

    // ------------------------------------------------------------------ private: small things

    function _only(address one) private pure returns (address[] memory list) {
        list = new address[](1);
        list[0] = one;
    }

    function _shorten(address[] memory list, uint256 length) private pure returns (address[] memory) {
        // Never longer than it was made.
        assembly ("memory-safe") {
            mstore(list, length)
        }
        return list;
    }

    function _max(uint256 one, uint256 other) private pure returns (uint256) {
        return one > other ? one : other;
    }

    function _min(uint256 one, uint256 other) private pure returns (uint256) {
        return one < other ? one : other;
    }
}
