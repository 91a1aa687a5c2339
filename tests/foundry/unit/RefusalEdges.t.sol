// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {AloneStage} from "../base/AloneStage.sol";
import {vm} from "../base/Vm.sol";

/// @notice Nothing for nobody, nothing by anybody else: what every verb refuses, with whom and what it names.
contract RefusalEdges is AloneStage {
    uint256 private constant KEY = 0x0BE;
    bytes32 private constant PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
    bytes32 private constant AUTHORIZATION = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    // ------------------------------------------------------------------ nobody

    /// @dev Money of the zero address, or of the contract that holds it, could never leave.
    function test_no_money_for_nobody() external {
        address[2] memory nobody = [address(0), address(escrow)];
        for (uint256 i; i < 2; ++i) {
            bytes memory reason = abi.encodeWithSelector(IComputeEscrow.InvalidRecipient.selector, nobody[i]);
            _refused(_consumer, address(escrow), abi.encodeCall(IComputeEscrow.deposit, (nobody[i], 1)), reason);
            _refused(_consumer, address(escrow), abi.encodeCall(IComputeEscrow.withdraw, (1, nobody[i])), reason);
            _refused(
                _consumer,
                address(escrow),
                abi.encodeCall(IComputeEscrow.depositWithPermit, (nobody[i], 1, 0, 0, 0, 0)),
                reason
            );
            _refused(stranger, address(escrow), _authorized(_consumer, nobody[i], 1, block.timestamp + 1), reason);
            _refused(
                _provider,
                address(escrow),
                abi.encodeCall(IComputeEscrow.setPayoutAddress, (_provider, nobody[i])),
                reason
            );
            _refusedChannel(IComputeEscrow.Channel(nobody[i], people[1], _provider, 0), reason);
            _refusedChannel(IComputeEscrow.Channel(_consumer, people[1], nobody[i], 0), reason);
            _refusedAllowance(nobody[i], 1, reason);
        }
        _refusedChannel(
            IComputeEscrow.Channel(_consumer, address(0), _provider, 0),
            abi.encodeWithSelector(IComputeEscrow.ChannelWithoutSigner.selector)
        );
    }

    function test_no_stake_for_nobody() external {
        address[2] memory nobody = [address(0), address(staking)];
        vm.prank(_provider);
        staking.requestUnbond(1);
        vm.prank(stranger);
        staking.delegate(_provider, UNIT, 0);
        vm.prank(stranger);
        staking.requestUndelegate(_provider, uint160(UNIT / 2), 0);
        payment.mint(address(staking), 1000);
        vm.prank(address(escrow));
        staking.addFees(_provider, 1000);
        vm.warp(block.timestamp + UNBONDING_S);
        address to = address(staking);
        for (uint256 i; i < 2; ++i) {
            bytes memory reason = abi.encodeWithSelector(IProviderStaking.InvalidRecipient.selector, nobody[i]);
            _refused(_provider, to, abi.encodeCall(IProviderStaking.withdrawStake, (0, nobody[i])), reason);
            _refused(stranger, to, abi.encodeCall(IProviderStaking.withdrawDelegation, (0, nobody[i])), reason);
            _refused(stranger, to, abi.encodeCall(IProviderStaking.claimRewards, (_provider, nobody[i])), reason);
        }
    }

    // ------------------------------------------------------------------ nothing

    function test_no_verb_moves_nothing() external {
        bytes memory reason = abi.encodeWithSelector(IComputeEscrow.ZeroAmount.selector);
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(_consumer, people[1], _provider, 0);
        address to = address(escrow);
        _refused(_consumer, to, abi.encodeCall(IComputeEscrow.fund, (channel, 0)), reason);
        _refused(_consumer, to, abi.encodeCall(IComputeEscrow.depositWithPermit, (_consumer, 0, 0, 0, 0, 0)), reason);
        _refused(
            _consumer, to, abi.encodeCall(IComputeEscrow.depositToChannelWithPermit, (channel, 0, 0, 0, 0, 0)), reason
        );
        _refused(stranger, to, _authorized(_consumer, _consumer, 0, block.timestamp + 1), reason);
        _refusedAllowance(_provider, 0, reason);
        reason = abi.encodeWithSelector(IComputeEscrow.NoCredit.selector, stranger);
        _refused(
            stranger, to, abi.encodeCall(IComputeEscrow.withdrawCredit, (stranger, new IComputeEscrow.Row[](0))), reason
        );
        to = address(staking);
        reason = abi.encodeWithSelector(IProviderStaking.NothingToWithdraw.selector, stranger);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.withdrawFees, (stranger)), reason);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.withdrawBounty, (stranger)), reason);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.claimRewards, (_provider, stranger)), reason);
        reason = abi.encodeWithSelector(IProviderStaking.UnknownRequest.selector, stranger, 0);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.withdrawStake, (0, stranger)), reason);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.withdrawDelegation, (0, stranger)), reason);
    }

    /// @dev Neither closed nor closing while nothing is in it.
    function test_a_channel_without_money_has_no_end() external {
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(_consumer, people[1], _provider, 0);
        bytes32 id = escrow.channelIdOf(channel);
        bytes memory none = abi.encodeWithSelector(IComputeEscrow.CloseNotRequested.selector, id);
        address to = address(escrow);
        _refused(
            _consumer,
            to,
            abi.encodeCall(IComputeEscrow.requestClose, (channel)),
            abi.encodeWithSelector(IComputeEscrow.NothingUnclaimed.selector, id)
        );
        _refused(_consumer, to, abi.encodeCall(IComputeEscrow.cancelClose, (channel)), none);
        _refused(_consumer, to, abi.encodeCall(IComputeEscrow.close, (channel)), none);
        vm.prank(_consumer);
        escrow.fund(channel, 10);
        _refused(
            _provider,
            to,
            abi.encodeCall(IComputeEscrow.release, (channel, 11)),
            abi.encodeWithSelector(IComputeEscrow.InsufficientUnclaimed.selector, 11, 10)
        );
        vm.prank(_provider);
        escrow.release(channel, 10);
        (uint128 deposited,,) = escrow.channelOf(id);
        checkEqual(0, deposited, "all of it");
    }

    // ------------------------------------------------------------------ somebody else

    function test_somebody_else_is_named() external {
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(_consumer, people[1], _provider, 0);
        address to = address(escrow);
        bytes memory reason = abi.encodeWithSelector(IComputeEscrow.OnlyPayer.selector, _consumer, stranger);
        _refused(stranger, to, abi.encodeCall(IComputeEscrow.fund, (channel, 1)), reason);
        _refused(stranger, to, abi.encodeCall(IComputeEscrow.requestClose, (channel)), reason);
        _refused(stranger, to, abi.encodeCall(IComputeEscrow.cancelClose, (channel)), reason);
        reason = abi.encodeWithSelector(IComputeEscrow.OnlyProvider.selector, _provider, stranger);
        _refused(stranger, to, abi.encodeCall(IComputeEscrow.release, (channel, 1)), reason);
        reason = abi.encodeWithSelector(IComputeEscrow.OnlyMarket.selector, address(market), stranger);
        _refused(stranger, to, abi.encodeCall(IComputeEscrow.unlock, (stranger, 1)), reason);
        to = address(staking);
        reason = abi.encodeWithSelector(IProviderStaking.OnlyEscrow.selector, address(escrow), stranger);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.addFees, (_provider, 1)), reason);
        reason = abi.encodeWithSelector(IProviderStaking.OnlyCourt.selector, address(court), stranger);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.setSeats, (_provider, 1)), reason);
        _bind();
        reason = abi.encodeWithSelector(IProviderStaking.OnlyProvider.selector, _provider, stranger);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.retireOperatorKey, (vm.addr(KEY))), reason);
        reason = abi.encodeWithSelector(IProviderStaking.NotJailed.selector, stranger);
        _refused(stranger, to, abi.encodeCall(IProviderStaking.unjail, ()), reason);
        to = address(court);
        reason = abi.encodeWithSelector(IDisputeCourt.OnlyMarket.selector, address(market), stranger);
        _refused(stranger, to, abi.encodeCall(IDisputeCourt.open, (_id, _terms, _provider)), reason);
        reason = abi.encodeWithSelector(IDisputeCourt.NoSeat.selector, stranger);
        _refused(stranger, to, abi.encodeCall(IDisputeCourt.leaveSeat, ()), reason);
        _refused(stranger, to, abi.encodeCall(IDisputeCourt.freeSeat, (stranger)), reason);
        _refused(stranger, to, abi.encodeCall(IDisputeCourt.dismissSeat, (stranger)), reason);
        ITaskMarket.ProvenWork memory work = _proven();
        reason = abi.encodeWithSelector(ITaskMarket.OnlyConsumer.selector, _consumer, stranger);
        _refused(stranger, address(market), abi.encodeCall(ITaskMarket.dispute, (_terms, work)), reason);
    }

    /// @dev Neither the provider itself nor nobody becomes its key, whatever is shown as a signature.
    function test_a_key_is_somebody_else() external {
        address to = address(staking);
        bytes memory own = signed(keyOf[dispatcher], staking.digestOfOperatorKey(dispatcher, dispatcher), false);
        _refused(
            dispatcher,
            to,
            abi.encodeCall(IProviderStaking.bindOperatorKey, (dispatcher, own)),
            abi.encodeWithSelector(IProviderStaking.KeyIsProvider.selector, dispatcher)
        );
        _refused(
            dispatcher,
            to,
            abi.encodeCall(IProviderStaking.bindOperatorKey, (address(0), new bytes(65))),
            abi.encodeWithSelector(IProviderStaking.InvalidKeySignature.selector, address(0), address(0))
        );
    }

    /// @dev Who signs for a provider also releases and votes for it; with a key that is retired, no more.
    function test_a_key_releases_and_votes() external {
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(_consumer, people[1], _provider, 0);
        vm.prank(_consumer);
        escrow.fund(channel, 10);
        address key = vm.addr(KEY);
        _bind();
        vm.prank(key);
        escrow.release(channel, 4);
        (uint128 deposited,,) = escrow.channelOf(escrow.channelIdOf(channel));
        checkEqual(6, deposited, "released");
        vm.prank(_provider);
        staking.retireOperatorKey(key);
        _refused(
            key,
            address(escrow),
            abi.encodeCall(IComputeEscrow.release, (channel, 1)),
            abi.encodeWithSelector(IComputeEscrow.OnlyProvider.selector, _provider, key)
        );
        address[3] memory drawn = _drawn();
        address pen = vm.addr(KEY + 1);
        bytes memory consent = signed(KEY + 1, staking.digestOfOperatorKey(drawn[0], pen), false);
        vm.prank(drawn[0]);
        staking.bindOperatorKey(pen, consent);
        vm.prank(pen);
        court.commit(_id, drawn[0], "vote");
        checkEqual(bytes32("vote"), court.checkersOf(_id, 1)[0].commitment, "committed");
    }

    // ------------------------------------------------------------------ what a provider must keep

    /// @dev Each GPU and each seat has a whole unit, to the last token.
    function test_what_is_backed_stays_to_the_token() external {
        address seat = people[SEAT_FROM];
        vm.prank(seat);
        staking.stake(2 * UNIT);
        vm.prank(seat);
        staking.registerGpus("gpus", 1);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.StakeBacksGpus.selector, 2 * UNIT, 2 * UNIT - 1));
        vm.prank(seat);
        staking.requestUnbond(UNIT + 1);
        vm.prank(seat);
        staking.requestUnbond(UNIT);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.StakeTooLow.selector, 3 * UNIT, 2 * UNIT));
        vm.prank(seat);
        staking.registerGpus("gpus", 2);
        // Fewer GPUs can always be said, also by one whose seat is not covered any more.
        vm.prank(address(court));
        staking.slash(seat, 2 * UNIT, "offence", new address[](0));
        vm.prank(seat);
        staking.registerGpus("gpus", 0);
        checkEqual(0, staking.gpusOf(seat), "none");
    }

    /// @dev What stays in a pool is a whole delegation, to the token.
    function test_what_stays_delegated_is_enough() external {
        uint160 least_ = uint160(UNIT / 100);
        vm.prank(stranger);
        staking.delegate(_provider, UNIT, 0);
        vm.prank(stranger);
        staking.requestUndelegate(_provider, uint160(UNIT) - least_, 0);
        (uint160 shares,) = staking.delegationOf(_provider, stranger);
        checkEqual(least_, shares, "the least that may stay");
        vm.prank(stranger);
        (uint256 request,) = staking.requestUndelegate(_provider, least_, 0);
        checkEqual(1, request, "the second");
        check(!staking.hasPool(_provider), "nobody is left");
    }

    // ------------------------------------------------------------------ signatures of the token

    /// @dev Nothing is allowed before: what moves, moves by the permit. A second time it is used up.
    function test_a_permit_is_all_that_a_deposit_needs() external {
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(_consumer, people[1], _provider, 0);
        vm.prank(_consumer);
        payment.approve(address(escrow), 0);
        vm.prank(_consumer);
        bond.approve(address(staking), 0);
        (uint8 v, bytes32 r, bytes32 s) = _permit(payment.DOMAIN_SEPARATOR(), address(escrow), 5, 0);
        vm.prank(_consumer);
        escrow.depositWithPermit(stranger, 5, block.timestamp, v, r, s);
        (uint128 available,) = escrow.accountOf(stranger);
        checkEqual(5, available, "deposited");
        (v, r, s) = _permit(payment.DOMAIN_SEPARATOR(), address(escrow), 6, 1);
        vm.prank(_consumer);
        escrow.depositToChannelWithPermit(channel, 6, block.timestamp, v, r, s);
        (uint128 deposited,,) = escrow.channelOf(escrow.channelIdOf(channel));
        checkEqual(6, deposited, "in the channel");
        (v, r, s) = _permit(bond.DOMAIN_SEPARATOR(), address(staking), 7, 0);
        vm.prank(_consumer);
        staking.stakeWithPermit(7, block.timestamp, v, r, s);
        (uint128 bonded,) = staking.stakeOf(_consumer);
        checkEqual(7, bonded, "staked");
        (v, r, s) = _permit(bond.DOMAIN_SEPARATOR(), address(staking), UNIT, 1);
        vm.prank(_consumer);
        staking.delegateWithPermit(_provider, UNIT, uint160(UNIT), block.timestamp, v, r, s);
        (, uint128 amount) = staking.delegationOf(_provider, _consumer);
        checkEqual(UNIT, amount, "delegated");
        vm.expectRevert();
        vm.prank(_consumer);
        staking.stakeWithPermit(7, block.timestamp, v, r, s);
    }

    /// @dev Whoever carries it, into the channel that was signed for and no other.
    function test_an_authorization_is_for_one_channel() external {
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(_consumer, people[1], _provider, 0);
        bytes32 nonce = escrow.channelAuthorizationNonce(escrow.channelIdOf(channel), "salt");
        (uint8 v, bytes32 r, bytes32 s) = _authorization(5, nonce, block.timestamp + 1);
        uint256 until = block.timestamp + 1;
        IComputeEscrow.Channel memory other = IComputeEscrow.Channel(_consumer, people[1], stranger, 0);
        vm.expectRevert();
        escrow.depositToChannelWithAuthorization(_consumer, other, 5, 0, until, "salt", v, r, s);
        bytes32 id = escrow.channelIdOf(channel);
        vm.expectEmit(address(escrow));
        emit IComputeEscrow.ChannelDeposited(id, _consumer, _provider, people[1], 0, _consumer, 5, 5);
        escrow.depositToChannelWithAuthorization(_consumer, channel, 5, 0, until, "salt", v, r, s);
        bytes memory reason = abi.encodeWithSelector(IComputeEscrow.ZeroAmount.selector);
        _refused(
            stranger,
            address(escrow),
            abi.encodeCall(
                IComputeEscrow.depositToChannelWithAuthorization, (_consumer, channel, 0, 0, until, "salt", v, r, s)
            ),
            reason
        );
    }

    // ------------------------------------------------------------------ acts

    function _refused(address from, address to, bytes memory data, bytes memory reason) private {
        vm.prank(from);
        // solhint-disable-next-line avoid-low-level-calls
        (bool done, bytes memory answer) = to.call(data);
        check(!done, "refused");
        checkEqual(keccak256(reason), keccak256(answer), "for this reason");
    }

    /// @dev By each of the ways in.
    function _refusedChannel(IComputeEscrow.Channel memory channel, bytes memory reason) private {
        address to = address(escrow);
        _refused(_consumer, to, abi.encodeCall(IComputeEscrow.depositToChannel, (channel, 1)), reason);
        _refused(
            _consumer, to, abi.encodeCall(IComputeEscrow.depositToChannelWithPermit, (channel, 1, 0, 0, 0, 0)), reason
        );
        bytes32 nonce = escrow.channelAuthorizationNonce(escrow.channelIdOf(channel), "salt");
        uint256 until = block.timestamp + 1;
        (uint8 v, bytes32 r, bytes32 s) = _authorization(1, nonce, until);
        _refused(
            stranger,
            to,
            abi.encodeCall(
                IComputeEscrow.depositToChannelWithAuthorization, (_consumer, channel, 1, 0, until, "salt", v, r, s)
            ),
            reason
        );
        if (channel.payer != _consumer) return;
        _refused(_consumer, to, abi.encodeCall(IComputeEscrow.fund, (channel, 1)), reason);
    }

    function _refusedAllowance(address provider, uint128 amount, bytes memory reason) private {
        address signer = vm.addr(sessionKeyOf[_consumer]);
        IComputeEscrow.ChannelAllowance memory allowance =
            IComputeEscrow.ChannelAllowance(_consumer, signer, 10, uint64(block.timestamp), "purpose", 0);
        bytes memory signature = signed(keyOf[_consumer], escrow.digestOfChannelAllowance(allowance), false);
        bytes memory data =
            abi.encodeCall(IComputeEscrow.fundWithAllowance, (allowance, signature, provider, 0, amount));
        _refused(signer, address(escrow), data, reason);
    }

    function _bind() private {
        address key = vm.addr(KEY);
        bytes memory consent = signed(KEY, staking.digestOfOperatorKey(_provider, key), false);
        vm.prank(_provider);
        staking.bindOperatorKey(key, consent);
    }

    /// @dev Signed by the consumer, as are all here.
    function _permit(bytes32 domain, address spender, uint256 amount, uint256 nonce)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 inside = keccak256(abi.encode(PERMIT, _consumer, spender, amount, nonce, block.timestamp));
        return vm.sign(keyOf[_consumer], keccak256(abi.encodePacked(hex"1901", domain, inside)));
    }

    function _authorization(uint256 amount, bytes32 nonce, uint256 until)
        private
        view
        returns (uint8 v, bytes32 r, bytes32 s)
    {
        bytes32 inside = keccak256(abi.encode(AUTHORIZATION, _consumer, escrow, amount, uint256(0), until, nonce));
        return vm.sign(keyOf[_consumer], keccak256(abi.encodePacked(hex"1901", payment.DOMAIN_SEPARATOR(), inside)));
    }

    function _authorized(address from, address to, uint128 amount, uint256 until) private view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = _authorization(amount, escrow.authorizationNonce(to, "salt"), until);
        return abi.encodeCall(IComputeEscrow.depositWithAuthorization, (from, to, amount, 0, until, "salt", v, r, s));
    }
}
