// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {vm} from "../base/Vm.sol";
import {Exits} from "./Exits.sol";

/// @notice Everything that can happen, for Foundry to call in any order. A function named `contract_verb` reaches that
/// verb; `refused_...` must never get through; the others only let time pass or prepare.
contract Handler is Exits {
    constructor() {
        build();
        figuresAtStart = figures();
        for (uint256 i; i < 4; ++i) {
            uint128 amount = 10_000 * TALLY;
            vm.prank(people[i]);
            escrow.deposit(people[i], amount);
            available[people[i]] = amount;
            paidIn += amount;
        }
        vm.prank(address(payment));
        escrow.deposit(address(payment), TALLY);
        available[address(payment)] = TALLY;
        paidIn += TALLY;
        for (uint256 i; i < PROVIDERS; ++i) {
            vm.prank(people[PROVIDER_FROM + i]);
            staking.stake(4 * UNIT);
            stakedIn += 4 * UNIT;
            vm.prank(people[PROVIDER_FROM + i]);
            staking.setCommission(1000);
        }
        vm.warp(block.timestamp + COMMISSION_NOTICE_S);
        for (uint256 i; i < SEATS; ++i) {
            address seat = people[SEAT_FROM + i];
            vm.prank(seat);
            staking.stake(3 * UNIT);
            stakedIn += 3 * UNIT;
            vm.prank(seat);
            court.takeSeat();
        }
        vm.warp(block.timestamp + DAY_S);
        for (uint256 i; i < SEATS; ++i) {
            court.listSeat(people[SEAT_FROM + i]);
        }
        vm.warp(block.timestamp + 1);
    }

    /// @notice Mostly a moment; now and then long enough that something ends.
    function time_passes(uint256 seed) external {
        uint256[8] memory jumps = [uint256(1), 12, 60, 10 minutes, 1 hours, CANCEL_S + 1, 1 days, 8 days];
        uint256 jump = jumps[seed % 32 < 28 ? (seed >> 8) % 6 : 6 + (seed >> 8) % 2];
        vm.warp(block.timestamp + jump);
        vm.roll(block.number + 1 + jump / 12);
    }
}
