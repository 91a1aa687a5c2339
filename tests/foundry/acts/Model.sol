// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice What the books should say, kept beside the contracts by other code, and what was found broken.
/// @dev An act knows beforehand whether it must succeed. One that is refused as it should be reverts, so that Foundry
/// counts it apart; one that ends otherwise than foretold is a breach of the law named with it.
abstract contract Model is Stage {
    enum Law {
        Solvency,
        Conservation,
        OnePayment,
        Voucher,
        SessionKey,
        Exit,
        Stake,
        SharePrice,
        Terms,
        Index,
        Lease,
        HotKey
    }

    enum State {
        Order,
        Open,
        Proven,
        Disputed,
        Settled,
        Refunded
    }

    struct Task {
        ITaskMarket.TaskTerms terms;
        bytes32 id;
        State state;
        uint64 cancelledAt;
        uint64 windowEndsAt;
        uint32 payments;
        address provider;
        uint128 charge;
        bytes32 receipt;
        uint128 backing;
        uint64 provenAt;
        uint64 disputedAt;
        uint128 bond;
        uint8 round;
    }

    /// @notice An act was refused, as it should be.
    error Refused(string act);

    Task[] internal tasks;
    uint256 internal nextNonce;
    mapping(address consumer => mapping(uint256 nonce => bool)) internal usedNonce;

    mapping(address person => uint256) public available;
    mapping(address person => uint256) public locked;
    mapping(address person => uint256) public credit;
    mapping(address person => uint256) public fees;

    /// @notice Payment tokens that entered and left the escrow, and those sent without a deposit.
    uint256 public paidIn;
    uint256 public paidOut;
    uint256 public donated;

    /// @notice The same of the staking token.
    uint256 public stakedIn;
    uint256 public stakedOut;
    uint256 public stakeDonated;

    mapping(Law law => string) public breach;

    function violate(Law law, string memory what) internal {
        breach[law] = what;
    }

    /// @dev Call as `from`. Counted as refused if that was to be expected, as a breach if the outcome surprises.
    /// @return done Whether the call went through; the books are to be moved then.
    function attempt(address from, address target, bytes memory data, bool expected, Law law, string memory act)
        internal
        returns (bool done, bytes memory answer)
    {
        vm.prank(from);
        // solhint-disable-next-line avoid-low-level-calls
        (done, answer) = target.call(data);
        if (!done && !expected) revert Refused(act);
        if (done != expected) violate(law, act);
    }

    function person(uint256 seed) internal view returns (address) {
        return people[seed % people.length];
    }

    function consumerBy(uint256 seed) internal view returns (address) {
        // One in eight is somebody whose business is another.
        return seed % 8 == 0 ? people[(seed >> 8) % 9] : people[(seed >> 8) % CONSUMERS];
    }

    function providerBy(uint256 seed) internal view returns (address) {
        return seed % 8 == 0 ? people[(seed >> 8) % 9] : people[PROVIDER_FROM + (seed >> 8) % PROVIDERS];
    }

    /// @dev Usually one in the wanted state, sometimes any: what must not happen has to be tried.
    function pickTask(uint256 seed, State wanted, State other) internal view returns (Task storage task) {
        uint256 total = tasks.length;
        if (total == 0) revert Refused("there is no task");
        uint256 start = (seed >> 8) % total;
        if (seed % 8 != 0) {
            for (uint256 step; step < total; ++step) {
                task = tasks[(start + step) % total];
                if (task.state == wanted || task.state == other) return task;
            }
        }
        return tasks[start];
    }

    function taskCount() external view returns (uint256) {
        return tasks.length;
    }

    function taskAt(uint256 i) external view returns (Task memory) {
        return tasks[i];
    }

    // ------------------------------------------------------------------ sums

    /// @notice Every book of the escrow is the model's; the error names the first that differs (L2).
    function checkBooks() external view {
        for (uint256 i; i < people.length; ++i) {
            address somebody = people[i];
            (uint128 free, uint128 held) = escrow.accountOf(somebody);
            (uint128 earned, uint128 setAside) = escrow.payeeOf(somebody);
            checkEqual(available[somebody], free, "L2: available");
            checkEqual(locked[somebody], held, "L2: locked");
            checkEqual(credit[somebody], earned, "L2: credit");
            checkEqual(fees[somebody], setAside, "L2: fees");
        }
    }

    function owedByEscrow() public view virtual returns (uint256 owed) {
        for (uint256 i; i < people.length; ++i) {
            (uint128 free, uint128 held) = escrow.accountOf(people[i]);
            (uint128 earned, uint128 setAside) = escrow.payeeOf(people[i]);
            owed += uint256(free) + held + earned + setAside;
        }
    }

    /// @notice Staking tokens: own, delegated, on their way out, bounties, and what waits to be burned.
    function owedByStaking() public view returns (uint256 owed) {
        for (uint256 i; i < people.length; ++i) {
            (uint128 bonded, uint128 unbonding) = staking.stakeOf(people[i]);
            (uint128 delegated,,, uint128 undelegating) = staking.poolOf(people[i]);
            owed += uint256(bonded) + unbonding + delegated + undelegating + staking.bountyOf(people[i]);
        }
        owed += staking.unburned();
    }

    /// @notice Payment tokens in the staking: commissions, what flows, and what has flowed and was not claimed. Fractions of
    /// a unit per holder are owed to nobody yet.
    function feesOwedByStaking() public view returns (uint256 owed) {
        for (uint256 i; i < people.length; ++i) {
            (uint128 remaining,) = staking.streamOf(people[i]);
            owed += uint256(staking.feesOf(people[i])) + remaining;
        }
        owed += rewardsOwed();
    }

    function rewardsOwed() public view virtual returns (uint256);

    /// @notice In the middle of a transfer the books never promise more than is there.
    function booksAreCovered() external view returns (bool) {
        return
            payment.balanceOf(address(escrow)) >= owedByEscrow() && bond.balanceOf(address(staking)) >= owedByStaking();
    }
}
