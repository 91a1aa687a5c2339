// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice The draw against a plain shuffle of the whole list, and the list itself after seats have come and gone.
contract DrawEdges is AloneStage {
    address[] private _list;

    /// @dev Three of four, then of nine, of which one may not judge: whatever the seed, those that the plain shuffle names.
    function test_a_draw_is_a_shuffle_of_the_list() external {
        for (uint256 i; i < SEATS; ++i) {
            _list.push(people[SEAT_FROM + i]);
        }
        uint256 before = vm.snapshotState();
        _checkDraws(address(0));
        vm.revertToState(before);
        for (uint256 i; i < 5; ++i) {
            _list.push(_newSeat(i));
        }
        _checkDraws(_list[6]);
    }

    /// @dev The last of the list takes the place of one that leaves; the last one itself leaves none behind.
    function test_a_draw_knows_who_took_which_place() external {
        for (uint256 i; i < 2; ++i) {
            _newSeat(i);
        }
        _leave(people[SEAT_FROM + 1]);
        _leave(people[SEAT_FROM + 3]);
        _list = [people[SEAT_FROM], _addressOf(1), people[SEAT_FROM + 2], _addressOf(0)];
        uint256 before = vm.snapshotState();
        _checkDraws(address(0));
        vm.revertToState(before);
        _leave(_addressOf(0));
        _list.pop();
        _checkDraws(address(0));
        // One that took another's place is found there when it leaves itself.
        vm.revertToState(before);
        _leave(_addressOf(1));
        _list = [people[SEAT_FROM], _addressOf(0), people[SEAT_FROM + 2]];
        _checkDraws(address(0));
    }

    /// @dev Once the chain has forgotten the block's hash, that of the 256th after it counts, and so on.
    function test_a_draw_block_is_one_that_the_chain_remembers() external {
        for (uint256 i; i < SEATS; ++i) {
            _list.push(people[SEAT_FROM + i]);
        }
        _disputed();
        uint256 drawBlock = block.number + 8;
        uint16[5] memory passed = [1, 256, 257, 512, 513];
        uint16[5] memory after_ = [0, 0, 256, 256, 512];
        uint256 before = vm.snapshotState();
        for (uint256 i; i < passed.length; ++i) {
            vm.roll(drawBlock + passed[i]);
            _checkDraw(drawBlock + after_[i], address(0));
            vm.revertToState(before);
        }
    }

    // ------------------------------------------------------------------ acts

    function _checkDraws(address party) private {
        if (party != address(0)) {
            _terms.signer = party;
            ++_terms.nonce;
            vm.prank(_consumer);
            _id = market.createTask(_terms, "");
        }
        _disputed();
        uint256 from = court.disputeOf(_id).drawBlock;
        uint256 before = vm.snapshotState();
        for (uint256 i; i < 12; ++i) {
            vm.roll(from + 256 * i + 1);
            _checkDraw(from + 256 * i, party);
            vm.revertToState(before);
        }
    }

    /// @dev Fisher and Yates, on the list as an array.
    function _checkDraw(uint256 hashBlock, address party) private {
        bytes32 seed = keccak256(abi.encode(blockhash(hashBlock), _id, uint8(1)));
        check(blockhash(hashBlock) != 0, "a hash that is remembered");
        address[] memory list = _list;
        address[3] memory expected;
        uint256 found;
        for (uint256 i; found < 3; ++i) {
            uint256 pick = i + uint256(keccak256(abi.encode(seed, i))) % (list.length - i);
            (list[i], list[pick]) = (list[pick], list[i]);
            if (list[i] != party) expected[found++] = list[i];
        }
        address[3] memory drawn = court.draw(_terms);
        for (uint256 i; i < 3; ++i) {
            checkEqual(expected[i], drawn[i], "the next of the shuffle");
        }
    }

    function _addressOf(uint256 i) private pure returns (address) {
        return address(uint160(0x5EA70000 + i));
    }

    function _newSeat(uint256 i) private returns (address seat) {
        seat = _addressOf(i);
        bond.mint(seat, UNIT);
        vm.prank(seat);
        bond.approve(address(staking), UNIT);
        vm.prank(seat);
        staking.stake(UNIT);
        vm.prank(seat);
        court.takeSeat();
        uint256 time = block.timestamp;
        vm.warp(time + DAY_S);
        court.listSeat(seat);
        vm.warp(time + DAY_S + 1);
        _again();
    }

    function _leave(address seat) private {
        uint256 listed = court.seats();
        vm.prank(seat);
        court.leaveSeat();
        vm.warp(block.timestamp + DAY_S);
        vm.expectEmit(address(court));
        emit IDisputeCourt.SeatFreed(seat, listed - 1);
        court.freeSeat(seat);
        checkEqual(listed - 1, court.seats(), "one less");
        vm.warp(block.timestamp + 1);
        _again();
    }

    /// @dev Days have passed: a task and a lease of now.
    function _again() private {
        _leaseFrom = uint64(block.timestamp);
        _leaseUntil = _leaseFrom + 100;
        _terms.deadline = _leaseFrom + 1 days;
        ++_terms.nonce;
        vm.prank(_consumer);
        _id = market.createTask(_terms, "");
    }
}
