// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {vm} from "../base/Vm.sol";
import {RegistryActs} from "./RegistryActs.sol";

/// @notice Ways out, tried where it leaves no trace: Foundry forgets what an invariant did.
abstract contract Exits is RegistryActs {
    /// @notice Everything that a deployment fixes, in one word, at its start.
    bytes32 public figuresAtStart;

    function figures() public view virtual returns (bytes32) {
        return keccak256(
            bytes.concat(
                abi.encode(
                    escrow.token(),
                    escrow.market(),
                    escrow.treasury(),
                    escrow.protocolFeeBps(),
                    address(escrow),
                    staking.token(),
                    staking.unit(),
                    staking.unbondingSeconds()
                ),
                abi.encode(
                    staking.retiredKeySeconds(),
                    market.escrow(),
                    market.staking(),
                    market.court(),
                    market.cancelSeconds(),
                    market.minChallengeSeconds(),
                    market.maxChallengeSeconds(),
                    market.courtSeconds(),
                    market.bondFloor(),
                    court.market(),
                    court.staking()
                ),
                abi.encode(
                    escrow.staking(),
                    escrow.poolShareBps(),
                    escrow.closeSeconds(),
                    staking.paymentToken(),
                    staking.escrow(),
                    staking.court(),
                    staking.treasury(),
                    staking.minDelegation(),
                    staking.commissionNoticeSeconds(),
                    staking.jailSeconds()
                ),
                abi.encode(
                    staking.streamSeconds(),
                    court.commitSeconds(),
                    court.revealSeconds(),
                    court.seatSeconds(),
                    registry.noticeSeconds()
                )
            )
        );
    }

    /// @notice One person takes out all that is not locked, for no more than this gas.
    function leaveWith(uint256 which, uint256 gasLimit) external {
        address somebody = people[which % people.length];
        payment.arm(address(0), "");
        (uint128 free,) = escrow.accountOf(somebody);
        if (free != 0) {
            _mustPass(somebody, address(escrow), abi.encodeCall(IComputeEscrow.withdraw, (free, somebody)), gasLimit);
        }
        (uint128 earned,) = escrow.payeeOf(somebody);
        if (earned != 0) _mustPass(stranger, address(escrow), _withdrawCreditCall(somebody), gasLimit);
        (free,) = escrow.accountOf(somebody);
        (earned,) = escrow.payeeOf(somebody);
        if (free != 0 || earned != 0) violate(Law.Exit, "something stayed behind");
    }

    /// @notice Every task ends, everybody takes everything; only gifts stay.
    function everybodyLeaves() external {
        payment.arm(address(0), "");
        vm.warp(block.timestamp + 30 days);
        vm.roll(block.number + 30 days / 12);
        settleEverything();
        for (uint256 i; i < people.length; ++i) {
            _leave(people[i]);
        }
        if (payment.balanceOf(address(escrow)) != donated) violate(Law.Exit, "payment tokens stayed in the escrow");
        stakeLeaves();
    }

    function settleEverything() internal virtual {
        for (uint256 i; i < tasks.length; ++i) {
            Task storage task = tasks[i];
            if (task.state == State.Open) {
                _mustPass(stranger, address(market), abi.encodeCall(ITaskMarket.reclaim, (task.terms)), gasleft());
            } else if (task.state == State.Proven) {
                ITaskMarket.ProvenWork memory work = ITaskMarket.ProvenWork(task.provider, task.charge, task.receipt);
                bytes memory data = abi.encodeCall(ITaskMarket.finalize, (task.terms, work, ""));
                _mustPass(stranger, address(market), data, gasleft());
            } else if (task.state == State.Disputed) {
                // The court is not asked: exits depend on no neighbour's health.
                bytes memory data = abi.encodeCall(ITaskMarket.endDispute, (task.terms, _workOf(task)));
                _mustPass(stranger, address(market), data, gasleft());
            }
        }
        closeChannels();
    }

    function closeChannels() private {
        for (uint256 i; i < lines.length; ++i) {
            Line storage line = lines[i];
            (uint128 deposited, uint128 claimed, uint64 closeAt) = escrow.channelOf(line.id);
            if (closeAt == 0 && deposited != claimed) {
                bytes memory data = abi.encodeCall(IComputeEscrow.requestClose, (line.channel));
                _mustPass(line.channel.payer, address(escrow), data, gasleft());
            }
        }
        vm.warp(block.timestamp + CLOSE_S);
        for (uint256 i; i < lines.length; ++i) {
            (,, uint64 closeAt) = escrow.channelOf(lines[i].id);
            if (closeAt == 0) continue;
            _mustPass(stranger, address(escrow), abi.encodeCall(IComputeEscrow.close, (lines[i].channel)), gasleft());
        }
    }

    function stakeLeaves() internal {
        _everyoneUnbonds();
        vm.warp(block.timestamp + UNBONDING_S);
        for (uint256 i; i < people.length; ++i) {
            address somebody = people[i];
            uint256 last = staking.unbondRequestsOf(somebody);
            for (uint256 id; id < last; ++id) {
                (, uint64 withdrawableAt) = staking.unbondRequest(somebody, id);
                if (withdrawableAt == 0) continue;
                bytes memory data = abi.encodeCall(IProviderStaking.withdrawStake, (id, somebody));
                _mustPass(somebody, address(staking), data, gasleft());
            }
            last = staking.undelegateRequestsOf(somebody);
            for (uint256 id; id < last; ++id) {
                (,, uint64 withdrawableAt) = staking.undelegateRequest(somebody, id);
                if (withdrawableAt == 0) continue;
                bytes memory data = abi.encodeCall(IProviderStaking.withdrawDelegation, (id, somebody));
                _mustPass(somebody, address(staking), data, gasleft());
            }
            if (staking.bountyOf(somebody) != 0) {
                bytes memory data = abi.encodeCall(IProviderStaking.withdrawBounty, (somebody));
                _mustPass(stranger, address(staking), data, gasleft());
            }
        }
        if (staking.unburned() != 0) {
            _mustPass(stranger, address(staking), abi.encodeCall(IProviderStaking.burnSlashed, ()), gasleft());
        }
        _feesLeave();
        if (bond.balanceOf(address(staking)) - stakeDonated > people.length) {
            violate(Law.Exit, "stake stayed behind");
        }
    }

    function _everyoneUnbonds() private {
        for (uint256 i; i < people.length; ++i) {
            address somebody = people[i];
            if (staking.gpusOf(somebody) != 0) {
                _mustPass(somebody, address(staking), abi.encodeCall(IProviderStaking.registerGpus, (0, 0)), gasleft());
            }
            (uint64 listableAt, uint64 leavableAt,) = court.seatOf(somebody);
            if (listableAt != 0 && leavableAt == 0) {
                _mustPass(somebody, address(court), abi.encodeCall(IDisputeCourt.leaveSeat, ()), gasleft());
            }
        }
        vm.warp(block.timestamp + DAY_S);
        for (uint256 i; i < people.length; ++i) {
            address somebody = people[i];
            (uint64 listableAt,,) = court.seatOf(somebody);
            if (listableAt != 0) {
                _mustPass(stranger, address(court), abi.encodeCall(IDisputeCourt.freeSeat, (somebody)), gasleft());
            }
            (uint128 bonded,) = staking.stakeOf(somebody);
            if (bonded == 0) continue;
            _mustPass(somebody, address(staking), abi.encodeCall(IProviderStaking.requestUnbond, (bonded)), gasleft());
        }
        for (uint256 i; i < positions.length; ++i) {
            (uint160 shares, uint128 worth) = staking.delegationOf(positions[i][0], positions[i][1]);
            if (worth == 0) continue;
            bytes memory data = abi.encodeCall(IProviderStaking.requestUndelegate, (positions[i][0], shares, 0));
            _mustPass(positions[i][1], address(staking), data, gasleft());
        }
    }

    /// @dev Fees too: less than one unit for each who ever held a share stays.
    function _feesLeave() private {
        for (uint256 i; i < positions.length; ++i) {
            if (staking.rewardsOf(positions[i][0], positions[i][1]) == 0) continue;
            bytes memory data = abi.encodeCall(IProviderStaking.claimRewards, (positions[i][0], positions[i][1]));
            _mustPass(positions[i][1], address(staking), data, gasleft());
        }
        for (uint256 i; i < people.length; ++i) {
            if (staking.feesOf(people[i]) == 0) continue;
            bytes memory data = abi.encodeCall(IProviderStaking.withdrawFees, (people[i]));
            _mustPass(stranger, address(staking), data, gasleft());
        }
        if (payment.balanceOf(address(staking)) > positions.length + people.length) {
            violate(Law.Exit, "fees stayed behind");
        }
    }

    /// @notice What a slash could still take from a provider's own stake.
    function withinReach(address provider) external view returns (uint256) {
        (uint128 bonded, uint128 unbonding) = staking.stakeOf(provider);
        return uint256(bonded) + unbonding;
    }

    function _leave(address somebody) private {
        (uint128 free, uint128 held) = escrow.accountOf(somebody);
        if (held != 0) violate(Law.Exit, "money of tasks stayed locked");
        if (free != 0) {
            bytes memory data = abi.encodeCall(IComputeEscrow.withdraw, (free, somebody));
            _mustPass(somebody, address(escrow), data, gasleft());
        }
        (uint128 earned,) = escrow.payeeOf(somebody);
        if (earned != 0) _mustPass(stranger, address(escrow), _withdrawCreditCall(somebody), gasleft());
        (, uint128 setAside) = escrow.payeeOf(somebody);
        if (setAside != 0) {
            _mustPass(stranger, address(escrow), abi.encodeCall(IComputeEscrow.shareFees, (somebody)), gasleft());
        }
    }

    function _mustPass(address from, address target, bytes memory data, uint256 gasLimit) internal {
        vm.prank(from);
        // solhint-disable-next-line avoid-low-level-calls
        (bool done,) = target.call{gas: gasLimit}(data);
        if (!done) violate(Law.Exit, string.concat("a way out is shut: ", _selector(data)));
    }

    function _selector(bytes memory data) private pure returns (string memory) {
        bytes memory digits = "0123456789abcdef";
        bytes memory text = new bytes(8);
        for (uint256 i; i < 4; ++i) {
            text[2 * i] = digits[uint8(data[i]) >> 4];
            text[2 * i + 1] = digits[uint8(data[i]) & 15];
        }
        return string(text);
    }
}
