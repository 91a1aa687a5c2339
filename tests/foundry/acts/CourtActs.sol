// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {vm} from "../base/Vm.sol";
import {PoolActs} from "./PoolActs.sol";

/// @notice Consumers dispute, seats are drawn and vote, strangers show faults.
abstract contract CourtActs is PoolActs {
    struct Slash {
        address provider;
        uint256 time;
        uint256 own;
    }

    Slash[] internal slashes;
    mapping(bytes32 offence => bool) internal punished;
    mapping(bytes32 taskAndRoundAndChecker => IDisputeCourt.Vote) internal sworn;
    mapping(bytes32 taskAndRoundAndChecker => IDisputeCourt.Vote) internal said;
    uint256 internal routes;

    /// @notice What slashes took of somebody's own stake since then.
    function slashedSince(address provider, uint256 time) external view returns (uint256 sum) {
        for (uint256 i; i < slashes.length; ++i) {
            if (slashes[i].provider == provider && slashes[i].time >= time) sum += slashes[i].own;
        }
    }

    function verifies() internal pure override returns (bool) {
        return true;
    }

    // ------------------------------------------------------------------ disputes

    function market_dispute(uint256 seed) external {
        Task storage task = _disputable(seed);
        ITaskMarket.TaskTerms memory terms = task.terms;
        address from = seed % 16 == 9 ? stranger : terms.consumer;
        uint256 amount = bondFor(task);
        bool may = task.state == State.Proven && terms.verification != 0 && block.timestamp <= task.windowEndsAt
            && from == terms.consumer && available[terms.consumer] >= amount;
        // Enough seats or not is the court's to say: then the proof stands.
        bytes memory data = abi.encodeCall(ITaskMarket.dispute, (terms, _workOf(task)));
        vm.prank(from);
        (bool done, bytes memory answer) = address(market).call(data);
        if (!done) {
            if (may && bytes4(answer) != IDisputeCourt.TooFewSeats.selector) violate(Law.Terms, "dispute");
            if (may && bytes4(answer) != IDisputeCourt.TooFewSeats.selector) return;
            revert Refused("dispute");
        }
        if (!may) violate(Law.Terms, "dispute");
        _disputed(task, amount);
    }

    function _disputable(uint256 seed) private returns (Task storage task) {
        for (uint256 i; i < tasks.length && i < 16; ++i) {
            task = tasks[((seed >> 8) + i) % tasks.length];
            if (seed % 16 == 0) return task;
            if (task.state != State.Proven || task.terms.verification == 0) continue;
            if (block.timestamp <= task.windowEndsAt) return task;
        }
        task = newTask(seed, false);
        proveHonestly(task, seed);
    }

    function _disputed(Task storage task, uint256 amount) private {
        ITaskMarket.TaskTerms memory terms = task.terms;
        available[terms.consumer] -= amount;
        locked[terms.consumer] += amount;
        task.bond = uint128(amount);
        task.disputedAt = uint64(block.timestamp);
        task.round = 1;
        task.state = State.Disputed;
    }

    /// @notice Three checkers' share of the charge, rounded up, and the floor; in plain, checked arithmetic.
    function bondFor(Task storage task) internal view returns (uint256) {
        uint256 parts = 3 * uint256(task.charge) * (task.terms.verification >> 8);
        return parts / 10_000 + (parts % 10_000 == 0 ? 0 : 1) + BOND_FLOOR;
    }

    function market_endDispute(uint256 seed) external {
        Task storage task = disputedTask(seed, IDisputeCourt.State.None);
        if (seed % 2 == 1 && task.state == State.Disputed) {
            later(task.disputedAt + COURT_S + 1 > block.timestamp ? task.disputedAt + COURT_S + 1 : block.timestamp);
        }
        bool good = task.state == State.Disputed && block.timestamp > uint256(task.disputedAt) + COURT_S;
        bytes memory data = abi.encodeCall(ITaskMarket.endDispute, (task.terms, _workOf(task)));
        (bool done,) = attempt(stranger, address(market), data, good, Law.Exit, "endDispute");
        if (done) _undecided(task);
    }

    function court_draw(uint256 seed) external {
        Task storage task = disputedTask(seed, IDisputeCourt.State.Drawing);
        if (seed % 4 != 0) vm.roll(block.number + 10);
        _maybe(stranger, address(court), abi.encodeCall(IDisputeCourt.draw, (task.terms)), "draw");
        IDisputeCourt.Checker[3] memory drawn = court.checkersOf(task.id, task.round);
        for (uint256 i; i < 3; ++i) {
            address seat = drawn[i].seat;
            if (
                seat == address(0) || seat == task.provider || seat == task.terms.consumer
                    || seat == task.terms.dispatcher || seat == task.terms.royaltyTo || seat == drawn[(i + 1) % 3].seat
            ) violate(Law.Terms, "a party, or somebody twice, was drawn");
        }
    }

    function court_commit(uint256 seed) external {
        if (seed % 8 != 0 && !_anyDrawn(false)) swornTask(seed);
        (Task storage task, address checker, bytes32 slot) = _drawn(seed, false);
        IDisputeCourt.Vote vote = _voteOf(seed);
        bytes32 commitment = court.commitmentOf(vote, slot, checker, task.id);
        _maybe(checker, address(court), abi.encodeCall(IDisputeCourt.commit, (task.id, checker, commitment)), "commit");
        sworn[slot] = vote;
    }

    function court_reveal(uint256 seed) external {
        if (seed % 8 != 0 && !_anyDrawn(true)) {
            Task storage fresh = swornTask(seed);
            for (uint256 i; i < 3; ++i) {
                _swear(fresh, i, seed);
            }
        }
        (Task storage task, address checker, bytes32 slot) = _drawn(seed, true);
        (,, uint64 revealEndsAt) = court.timesOf(task.id);
        if (seed % 4 != 0 && revealEndsAt > DAY_S) {
            later(revealEndsAt - DAY_S + 1);
        }
        IDisputeCourt.Vote vote = sworn[slot];
        if (seed % 16 == 5) vote = IDisputeCourt.Vote.Right;
        if (vote == IDisputeCourt.Vote.None) vote = IDisputeCourt.Vote.Wrong;
        bytes memory data = abi.encodeCall(IDisputeCourt.reveal, (task.id, checker, vote, slot));
        _maybe(stranger, address(court), data, "reveal");
        if (sworn[slot] != vote) violate(Law.Terms, "another vote was revealed than committed");
        said[slot] = vote;
    }

    function court_conclude(uint256 seed) external {
        Task storage task = _toConclude(seed);
        if (task.state == State.Disputed && seed % 2 == 0) {
            (uint64 lastDrawAt,, uint64 revealEndsAt) = court.timesOf(task.id);
            if (revealEndsAt == 0) revealEndsAt = lastDrawAt;
            if (revealEndsAt >= block.timestamp) later(uint256(revealEndsAt) + 1);
        }
        (uint256 rights, uint256 wrongs, address[3] memory seats) = _votes(task);
        uint256 reachBefore = _reachOf(task.provider);
        uint256[3] memory seatBefore = [_reachOf(seats[0]), _reachOf(seats[1]), _reachOf(seats[2])];
        _maybe(
            stranger, address(court), abi.encodeCall(IDisputeCourt.conclude, (task.terms, _workOf(task))), "conclude"
        );
        (ITaskMarket.Status status,) = market.taskOf(task.id);
        if (wrongs >= 2) _wrong(task, reachBefore);
        else if (rights >= 2) _right(task, seats);
        else if (status == ITaskMarket.Status.Disputed) task.round = 2;
        else _undecided(task);
        for (uint256 i; i < 3; ++i) {
            if (seats[i] != address(0) && seats[i] != task.provider) _noteSlash(seats[i], seatBefore[i], UNIT / 10);
        }
        if (status != ITaskMarket.Status.Disputed && rights < 2 && wrongs < 2 && task.round == 1) {
            // Only when no second draw can be heard any more.
            if (block.timestamp + 3 * DAY_S <= uint256(task.disputedAt) + COURT_S) {
                violate(Law.Terms, "a dispute ended undecided too early");
            }
        }
    }

    function _wrong(Task storage task, uint256 reachBefore) private {
        uint256 amount = uint256(task.charge) + task.bond;
        locked[task.terms.consumer] -= amount;
        available[task.terms.consumer] += amount;
        task.state = State.Refunded;
        _noteSlash(task.provider, reachBefore, UNIT);
    }

    function _right(Task storage task, address[3] memory seats) private {
        locked[task.terms.consumer] -= uint256(task.charge) + task.bond;
        uint256 rest = task.bond;
        for (uint256 i; i < 3; ++i) {
            IDisputeCourt.Vote vote = said[_slot(task.id, task.round, seats[i])];
            if (vote != IDisputeCourt.Vote.Right && vote != IDisputeCourt.Vote.NoInput) continue;
            credit[seats[i]] += task.bond / 3;
            rest -= task.bond / 3;
        }
        credit[task.provider] += rest;
        _earn(task, task.provider, task.charge);
    }

    function _undecided(Task storage task) private {
        locked[task.terms.consumer] -= uint256(task.charge) + task.bond;
        available[task.terms.consumer] += task.bond;
        _earn(task, task.provider, task.charge);
    }

    /// @dev A dispute before the court; made if there is none in this state. None: in any.
    function disputedTask(uint256 seed, IDisputeCourt.State wanted) internal returns (Task storage task) {
        for (uint256 i; i < tasks.length; ++i) {
            task = tasks[((seed >> 8) + i) % tasks.length];
            if (seed % 16 == 0) return task;
            if (task.state != State.Disputed) continue;
            IDisputeCourt.Dispute memory dispute = court.disputeOf(task.id);
            if (dispute.state == wanted || wanted == IDisputeCourt.State.None) {
                if (block.timestamp <= uint256(task.disputedAt) + 2 days) return task;
            }
        }
        task = newTask(seed, false);
        proveHonestly(task, seed);
        uint256 amount = bondFor(task);
        if (available[task.terms.consumer] < amount) revert Refused("the consumer cannot pay the bond");
        vm.prank(task.terms.consumer);
        market.dispute(task.terms, _workOf(task));
        _disputed(task, amount);
    }

    function swornTask(uint256 seed) internal returns (Task storage task) {
        task = disputedTask(seed | 1, IDisputeCourt.State.Drawing);
        vm.roll(block.number + 10);
        court.draw(task.terms);
    }

    function _swear(Task storage task, uint256 which, uint256 seed) private {
        address checker = court.checkersOf(task.id, task.round)[which].seat;
        bytes32 slot = _slot(task.id, task.round, checker);
        IDisputeCourt.Vote vote = _voteOf(mix(seed, which));
        bytes32 commitment = court.commitmentOf(vote, slot, checker, task.id);
        vm.prank(checker);
        court.commit(task.id, checker, commitment);
        sworn[slot] = vote;
    }

    /// @dev One with all votes in, now and then; otherwise whatever stands before the court.
    function _toConclude(uint256 seed) private returns (Task storage task) {
        if (seed % 4 != 1) return disputedTask(seed, IDisputeCourt.State.Sworn);
        task = swornTask(seed);
        for (uint256 i; i < 3; ++i) {
            _swear(task, i, seed >> 9);
        }
        later(block.timestamp + DAY_S + 1);
        for (uint256 i; i < 3; ++i) {
            address checker = court.checkersOf(task.id, task.round)[i].seat;
            bytes32 slot = _slot(task.id, task.round, checker);
            if (mix(seed, 40 + i) % 8 == 0) continue;
            court.reveal(task.id, checker, sworn[slot], slot);
            said[slot] = sworn[slot];
        }
        // Silent ones could still speak.
        if (seed % 8 == 1) later(block.timestamp + DAY_S);
    }

    function _anyDrawn(bool committed) private view returns (bool) {
        for (uint256 i; i < tasks.length; ++i) {
            Task storage task = tasks[i];
            if (task.state != State.Disputed || block.timestamp > uint256(task.disputedAt) + DAY_S) continue;
            IDisputeCourt.Checker[3] memory drawn = court.checkersOf(task.id, task.round);
            for (uint256 j; j < 3; ++j) {
                bytes32 slot = _slot(task.id, task.round, drawn[j].seat);
                if (drawn[j].seat == address(0) || (sworn[slot] != IDisputeCourt.Vote.None) != committed) continue;
                if (said[slot] == IDisputeCourt.Vote.None) return true;
            }
        }
        return false;
    }

    // ------------------------------------------------------------------ seats

    function court_takeSeat(uint256 seed) external {
        address seat = seed % 2 == 0 ? _seatHolder(seed) : _freeOfSeats(seed);
        _maybe(seat, address(court), abi.encodeCall(IDisputeCourt.takeSeat, ()), "takeSeat");
    }

    function court_listSeat(uint256 seed) external {
        address seat = _seatHolder(seed);
        for (uint256 i; i < people.length && seed % 8 != 0; ++i) {
            (uint64 listableAt, uint64 leavableAt, bool listed) = court.seatOf(seat);
            if (listableAt != 0 && leavableAt == 0 && !listed) {
                if (block.timestamp < listableAt) later(listableAt);
                break;
            }
            seat = people[((seed >> 8) + i) % people.length];
            if (i + 1 == people.length && seed % 4 != 0) {
                seat = _freeOfSeats(seed);
                vm.prank(seat);
                court.takeSeat();
                later(block.timestamp + DAY_S);
            }
        }
        _maybe(stranger, address(court), abi.encodeCall(IDisputeCourt.listSeat, (seat)), "listSeat");
    }

    function court_leaveSeat(uint256 seed) external {
        if (seed % 2 == 0) revert Refused("the seat is kept");
        address seat = _seatHolder(seed);
        _maybe(seat, address(court), abi.encodeCall(IDisputeCourt.leaveSeat, ()), "leaveSeat");
    }

    function court_freeSeat(uint256 seed) external {
        address seat = _seatHolder(seed);
        for (uint256 i; i < people.length && seed % 8 != 0; ++i) {
            (, uint64 leavableAt,) = court.seatOf(seat);
            if (leavableAt != 0) {
                if (block.timestamp < leavableAt) later(leavableAt);
                break;
            }
            seat = people[((seed >> 8) + i) % people.length];
            if (i + 1 == people.length && seed % 4 == 1) {
                seat = _withSeat(seed);
                vm.prank(seat);
                court.leaveSeat();
                later(block.timestamp + DAY_S);
            }
        }
        _maybe(stranger, address(court), abi.encodeCall(IDisputeCourt.freeSeat, (seat)), "freeSeat");
    }

    function court_dismissSeat(uint256 seed) external {
        address seat = _seatHolder(seed);
        for (uint256 i; i < people.length && seed % 8 != 0; ++i) {
            (uint64 listableAt,,) = court.seatOf(seat);
            if (listableAt != 0 && staking.isJailed(seat)) break;
            seat = people[((seed >> 8) + i) % people.length];
        }
        bool jailed = staking.isJailed(seat);
        (uint64 taken,,) = court.seatOf(seat);
        if (seed % 4 == 1 && (!jailed || taken == 0)) {
            seat = _withSeat(seed);
            _addStake(seat, UNIT);
            // It signs two histories.
            ITaskMarket.Receipt memory one = _blank(seat);
            ITaskMarket.Receipt memory other = _copy(one);
            other.total += 1;
            uint256 before = _reachOf(seat);
            punished[court.offenceOfRoute(seat, one.route)] = true;
            IDisputeCourt.SignedReceipt memory shown = _sign(one, keyOf[seat]);
            IDisputeCourt.SignedReceipt memory also = _sign(other, keyOf[seat]);
            vm.prank(stranger);
            court.reportTwoHistories(shown, also);
            _noteSlash(seat, before, UNIT);
            jailed = true;
        }
        _maybe(stranger, address(court), abi.encodeCall(IDisputeCourt.dismissSeat, (seat)), "dismissSeat");
        if (!jailed) violate(Law.Stake, "a seat was dismissed without jail");
    }

    // ------------------------------------------------------------------ faults on signatures

    function court_reportTwoHistories(uint256 seed) external {
        (ITaskMarket.Receipt memory one, uint256 pen) = _receipt(seed);
        ITaskMarket.Receipt memory other = _copy(one);
        other.total += 1;
        if (seed % 16 == 3) other.total -= 1;
        if (seed % 16 == 4) other.seq += 1;
        bool good = seed % 16 != 3 && seed % 16 != 4;
        bytes32 offence = court.offenceOfRoute(one.provider, one.route);
        good = good && !punished[offence];
        bytes memory data = abi.encodeCall(IDisputeCourt.reportTwoHistories, (_sign(one, pen), _sign(other, pen)));
        _report(one.provider, offence, data, good);
    }

    function court_reportBrokenChain(uint256 seed) external {
        (ITaskMarket.Receipt memory earlier, uint256 pen) = _receipt(seed);
        address payer = people[seed % CONSUMERS];
        uint96 salt = uint96(routes);
        earlier.route = keccak256(abi.encode(payer, vm.addr(sessionKeyOf[payer]), earlier.provider, salt));
        ITaskMarket.Receipt memory later = _copy(earlier);
        later.seq += 1;
        later.prev = market.digestOfReceipt(earlier);
        bool good = seed % 4 != 0;
        if (seed % 4 == 1) later.prev = bytes32(seed);
        if (seed % 4 > 1) later.total = earlier.total - 1;
        bytes32 offence = court.offenceOfRoute(earlier.provider, earlier.route);
        bytes memory data = abi.encodeCall(
            IDisputeCourt.reportBrokenChain,
            (payer, vm.addr(sessionKeyOf[payer]), salt, _sign(earlier, pen), _sign(later, pen))
        );
        _report(earlier.provider, offence, data, good && !punished[offence]);
    }

    function court_reportGpuSoldTwice(uint256 seed) external {
        (ITaskMarket.Receipt memory one, uint256 pen) = _receipt(seed);
        ITaskMarket.Receipt memory other = _copy(one);
        other.route = bytes32(mix(seed, 9));
        bytes32 gpuId = bytes32(mix(seed, 10));
        // A tree of one leaf is its leaf.
        one.gpuSet = keccak256(bytes.concat(keccak256(abi.encode(gpuId))));
        other.gpuSet = one.gpuSet;
        if (seed % 8 == 2) other.gpuSet = bytes32(seed);
        if (seed % 8 == 3) other.startedAtMs = one.endedAtMs - 2000;
        bool good = seed % 8 != 2 && seed % 8 != 3;
        bytes32 offence = court.offenceOfGpu(
            one.provider,
            gpuId,
            uint64((one.startedAtMs > other.startedAtMs ? one.startedAtMs : other.startedAtMs) / 86_400_000)
        );
        bytes memory data = abi.encodeCall(
            IDisputeCourt.reportGpuSoldTwice,
            (_sign(one, pen), _sign(other, pen), gpuId, new bytes32[](0), new bytes32[](0))
        );
        _report(one.provider, offence, data, good && !punished[offence]);
    }

    /// @dev Never: the market's and the court's orders.
    function refused_courtOrders(uint256 seed) external {
        Task storage task = pickTask(seed | 1, State.Disputed, State.Proven);
        address from = person(seed);
        if (seed % 2 == 0) {
            bytes memory data = abi.encodeCall(IDisputeCourt.open, (task.id, task.terms, task.provider));
            attempt(from, address(court), data, false, Law.Stake, "a stranger opened a dispute");
        } else {
            bytes memory data = abi.encodeCall(
                ITaskMarket.resolve, (task.terms, _workOf(task), ITaskMarket.Verdict.Wrong, new address[](0))
            );
            attempt(from, address(market), data, false, Law.Conservation, "a stranger resolved a dispute");
        }
    }

    // ------------------------------------------------------------------ private

    function _report(address provider, bytes32 offence, bytes memory data, bool good) private {
        uint256 before = _reachOf(provider);
        uint256 bountyBefore = staking.bountyOf(stranger);
        uint256 dustBefore = staking.bountyOf(treasury);
        uint256 others = _delegatedTo(provider);
        (bool done, bytes memory answer) = attempt(stranger, address(court), data, good, Law.Stake, "a report");
        if (!done) return;
        if (punished[offence]) violate(Law.Stake, "one offence was punished twice");
        punished[offence] = true;
        uint256 slashed = abi.decode(answer, (uint128));
        if (slashed > UNIT) violate(Law.Stake, "more than a unit was slashed");
        if (staking.bountyOf(stranger) - bountyBefore > slashed / 5) violate(Law.Stake, "more than a fifth is bounty");
        // What void pots left is the treasury's.
        uint256 dust = staking.bountyOf(treasury) - dustBefore;
        _noteSlash(provider, before, UNIT);
        // min(asked, there), own before delegators' (57, 71).
        uint256 own = before - _reachOf(provider);
        if (own != least(UNIT, before) && own != UNIT + dust) violate(Law.Stake, "own stake did not lose first");
        if (dust > (before + others) >> 32) violate(Law.Stake, "a void pot left more than dust");
        if (!staking.isJailed(provider)) violate(Law.Stake, "slashed and not jailed");
    }

    function _delegatedTo(address provider) private view returns (uint256) {
        (uint128 delegated,,, uint128 undelegating) = staking.poolOf(provider);
        return uint256(delegated) + undelegating;
    }

    function _noteSlash(address provider, uint256 before, uint256 most) private {
        uint256 now_ = _reachOf(provider);
        if (now_ > before) violate(Law.Stake, "a slash made somebody richer");
        // A slash that takes all but dust of what unbonds takes the dust too.
        if (before - now_ > most + (before >> 32)) violate(Law.Stake, "a slash took more than asked");
        if (before != now_) slashes.push(Slash(provider, block.timestamp, before - now_));
        notePrice(provider, true);
    }

    function _reachOf(address provider) private view returns (uint256) {
        (uint128 bonded, uint128 unbonding) = staking.stakeOf(provider);
        return uint256(bonded) + unbonding;
    }

    function _maybe(address from, address target, bytes memory data, string memory act) private {
        vm.prank(from);
        // solhint-disable-next-line avoid-low-level-calls
        (bool done,) = target.call(data);
        if (!done) revert Refused(act);
    }

    function _receipt(uint256 seed) private returns (ITaskMarket.Receipt memory receipt, uint256 pen) {
        // Rarely, or nobody has stake left.
        if (seed % 3 != 0) revert Refused("no fault this time");
        receipt = _blank(address(0));
        receipt.provider = people[PROVIDER_FROM + (seed >> 8) % PROVIDERS];
        pen = penOf(receipt.provider, mix(seed, 3));
        receipt.seq = 1 + uint64((seed >> 20) % 3);
        // Now and then an offence that was punished before.
        if (seed % 5 == 0) receipt.route = bytes32(routes - 1);
    }

    function _blank(address provider) private returns (ITaskMarket.Receipt memory receipt) {
        receipt.provider = provider;
        receipt.route = bytes32(++routes);
        receipt.seq = 1;
        receipt.endedAtMs = uint64(block.timestamp * 1000);
        receipt.startedAtMs = receipt.endedAtMs - 60_000;
        receipt.total = 5;
    }

    function _copy(ITaskMarket.Receipt memory receipt) private pure returns (ITaskMarket.Receipt memory) {
        return abi.decode(abi.encode(receipt), (ITaskMarket.Receipt));
    }

    function _sign(ITaskMarket.Receipt memory receipt, uint256 pen)
        private
        view
        returns (IDisputeCourt.SignedReceipt memory shown)
    {
        shown.receipt = receipt;
        (shown.r, shown.vs) = signedWords(pen, market.digestOfReceipt(receipt));
    }

    function _workOf(Task storage task) internal view returns (ITaskMarket.ProvenWork memory) {
        return ITaskMarket.ProvenWork(task.provider, task.charge, task.receipt);
    }

    function _drawn(uint256 seed, bool committed)
        private
        view
        returns (Task storage task, address checker, bytes32 slot)
    {
        for (uint256 i; i < tasks.length; ++i) {
            task = tasks[((seed >> 8) + i) % tasks.length];
            if (task.state != State.Disputed) continue;
            IDisputeCourt.Checker[3] memory drawn = court.checkersOf(task.id, task.round);
            for (uint256 j; j < 3; ++j) {
                checker = drawn[(j + seed) % 3].seat;
                slot = _slot(task.id, task.round, checker);
                if (checker == address(0) || (sworn[slot] != IDisputeCourt.Vote.None) != committed) continue;
                if (said[slot] == IDisputeCourt.Vote.None) return (task, checker, slot);
            }
        }
        revert Refused("nobody is to vote");
    }

    /// @dev Mostly right, or nobody would keep its stake.
    function _voteOf(uint256 seed) private pure returns (IDisputeCourt.Vote) {
        return IDisputeCourt.Vote(1 + (seed >> 70) % 4);
    }

    function _votes(Task storage task) private view returns (uint256 rights, uint256 wrongs, address[3] memory seats) {
        IDisputeCourt.Checker[3] memory drawn = court.checkersOf(task.id, task.round);
        for (uint256 i; i < 3; ++i) {
            seats[i] = drawn[i].seat;
            IDisputeCourt.Vote vote = said[_slot(task.id, task.round, seats[i])];
            if (vote == IDisputeCourt.Vote.Right || vote == IDisputeCourt.Vote.NoInput) ++rights;
            else if (vote != IDisputeCourt.Vote.None) ++wrongs;
        }
    }

    function _slot(bytes32 taskId, uint8 round, address checker) private pure returns (bytes32) {
        return keccak256(abi.encode(taskId, round, checker));
    }

    function _seatHolder(uint256 seed) private view returns (address) {
        return seed % 4 == 0 ? providerBy(seed >> 10) : people[SEAT_FROM + (seed >> 8) % SEATS];
    }

    /// @dev Somebody who can leave its seat, or be slashed on it.
    function _withSeat(uint256 seed) private view returns (address seat) {
        for (uint256 i; i < people.length; ++i) {
            seat = people[(SEAT_FROM + (seed >> 8) % SEATS + i) % people.length];
            (uint64 listableAt, uint64 leavableAt,) = court.seatOf(seat);
            if (listableAt != 0 && leavableAt == 0 && !staking.isJailed(seat)) return seat;
        }
        revert Refused("there is no seat");
    }

    /// @dev Somebody who can take a seat; one who holds one gives it up for that.
    function _freeOfSeats(uint256 seed) private returns (address seat) {
        for (uint256 i; i < SEATS; ++i) {
            seat = people[SEAT_FROM + ((seed >> 8) + i) % SEATS];
            (uint64 listableAt,,) = court.seatOf(seat);
            if (listableAt == 0 && !staking.isJailed(seat) && unbondable(seat) >= UNIT) return seat;
        }
        (uint64 taken, uint64 leavableAt,) = court.seatOf(seat);
        if (taken != 0 && leavableAt == 0) {
            vm.prank(seat);
            court.leaveSeat();
            leavableAt = uint64(block.timestamp + DAY_S);
        }
        if (taken != 0) {
            later(leavableAt);
            court.freeSeat(seat);
        }
        _addStake(seat, UNIT);
        if (staking.isJailed(seat)) {
            later(staking.jailedUntil(seat));
            vm.prank(seat);
            staking.unjail();
        }
    }

    function _addStake(address provider, uint128 amount) private {
        bond.mint(provider, amount);
        vm.prank(provider);
        staking.stake(amount);
        stakedIn += amount;
    }
}
