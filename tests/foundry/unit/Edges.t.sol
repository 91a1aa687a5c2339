// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITallystickDomain} from "../../../contracts/interfaces/ITallystickDomain.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {FeeOnTransferToken, OddAnswerToken} from "../../../contracts/mocks/Tokens.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice What no random act comes upon: hostile tokens, and the last second on either side of a rule.
contract Edges is Stage {
    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
    }

    /// @dev Case 2: what did not arrive is not credited, for a fee of any size.
    /// forge-config: default.fuzz.runs = 256
    function testFuzz_a_fee_on_transfer_makes_every_deposit_revert(uint16 seed) external {
        FeeOnTransferToken token = new FeeOnTransferToken(address(this), 1e30, 1 + uint256(seed) % 10_000);
        deployNeighbours(address(token), address(token));
        token.approve(address(escrow), type(uint256).max);
        token.approve(address(staking), type(uint256).max);
        IComputeEscrow.Channel memory channel = IComputeEscrow.Channel(people[0], people[1], people[2], 0);
        vm.expectPartialRevert(IComputeEscrow.DepositNotExact.selector);
        escrow.deposit(address(this), 1e18);
        vm.expectPartialRevert(IComputeEscrow.DepositNotExact.selector);
        escrow.depositToChannel(channel, 1e18);
        vm.expectPartialRevert(IProviderStaking.DepositNotExact.selector);
        staking.stake(1e18);
        vm.expectPartialRevert(IProviderStaking.DepositNotExact.selector);
        staking.delegate(people[4], UNIT, 0);
    }

    /// @dev Case 4: no answer is taken for true, false for a failure, and of 64 kB no more than the first word is read.
    function test_odd_answers_of_a_token() external {
        for (uint256 i; i < 3; ++i) {
            OddAnswerToken token = new OddAnswerToken(address(this), 1e30, OddAnswerToken.Answer(i));
            deployNeighbours(address(token), address(bond));
            token.approve(address(escrow), type(uint256).max);
            if (i == 1) {
                vm.expectRevert();
                escrow.deposit(address(this), 5);
                continue;
            }
            escrow.deposit(address(this), 5);
            escrow.withdraw(5, people[0]);
            checkEqual(5, token.balanceOf(people[0]), "what was paid in came out");
        }
    }

    /// @dev Case 67: a stranger's stake raises no bound of a provider's own, and breaks none.
    function test_a_strangers_stake_changes_no_bound() external {
        address provider = people[PROVIDER_FROM];
        vm.prank(provider);
        staking.stake(2 * UNIT);
        vm.prank(stranger);
        staking.delegate(provider, 50 * UNIT, 0);
        checkEqual(2, staking.unitsOf(provider), "units of its own");
        vm.prank(provider);
        vm.expectPartialRevert(IProviderStaking.StakeTooLow.selector);
        staking.registerGpus(bytes32("gpus"), 3);
        vm.prank(provider);
        staking.registerGpus(bytes32("gpus"), 2);
        vm.prank(provider);
        vm.expectPartialRevert(IProviderStaking.StakeBacksGpus.selector);
        staking.requestUnbond(1);
    }

    /// @dev Case 54: fees for nobody are refused, even if the escrow sends them.
    function test_fees_need_somebody_to_go_to() external {
        vm.prank(address(escrow));
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.NoPool.selector, people[4]));
        staking.addFees(people[4], 5);
    }

    /// @dev A receipt counts for as long as stake that stood behind it can be there, to the millisecond (case 30).
    function test_a_receipt_is_too_old_one_millisecond_after() external {
        address provider = people[PROVIDER_FROM];
        vm.prank(provider);
        staking.stake(2 * UNIT);
        uint64 earliestMs = uint64((block.timestamp - UNBONDING_S) * 1000);
        IDisputeCourt.SignedReceipt memory one = _receipt(provider, earliestMs - 1, 1);
        IDisputeCourt.SignedReceipt memory other = _receipt(provider, earliestMs - 1, 2);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.ReceiptTooOld.selector, earliestMs, earliestMs - 1));
        court.reportTwoHistories(one, other);
        one = _receipt(provider, earliestMs, 1);
        other = _receipt(provider, earliestMs, 2);
        checkEqual(UNIT, court.reportTwoHistories(one, other), "one unit");
    }

    /// @dev One receipt of its own and one that somebody else signed in its name, in either order.
    function test_a_forged_second_receipt_shows_nothing() external {
        address provider = people[PROVIDER_FROM];
        vm.prank(provider);
        staking.stake(2 * UNIT);
        uint64 endedAtMs = uint64(block.timestamp * 1000);
        IDisputeCourt.SignedReceipt memory own = _receipt(provider, endedAtMs, 1);
        IDisputeCourt.SignedReceipt memory forged = _receipt(provider, endedAtMs, 2);
        (forged.r, forged.vs) = signedWords(keyOf[stranger], market.digestOfReceipt(forged.receipt));
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotAnswerable.selector, provider, stranger));
        court.reportTwoHistories(own, forged);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotAnswerable.selector, provider, stranger));
        court.reportTwoHistories(forged, own);
    }

    /// @dev Case 36: a channel without a signer takes no deposit.
    function test_a_channel_needs_a_signer() external {
        vm.expectRevert(IComputeEscrow.ChannelWithoutSigner.selector);
        vm.prank(people[0]);
        escrow.depositToChannel(IComputeEscrow.Channel(people[0], address(0), people[4], 0), 1);
    }

    /// @dev Case 49: a total wider than its type, though signed, pays nothing.
    function test_a_total_wider_than_its_type_pays_nothing() external {
        address payer = people[0];
        uint256 total = 1 << 128;
        IComputeEscrow.Channel memory channel =
            IComputeEscrow.Channel(payer, vm.addr(sessionKeyOf[payer]), people[4], 0);
        vm.prank(payer);
        escrow.depositToChannel(channel, 100);
        (bytes32 r, bytes32 vs) = signedWords(sessionKeyOf[payer], _digestOfVoucher(channel, total));
        bytes memory row = abi.encode(uint256(uint160(payer)) << 96, total, bytes32(0), r, vs);
        // solhint-disable-next-line avoid-low-level-calls
        (bool done, bytes memory answer) =
            address(escrow).call(bytes.concat(IComputeEscrow.redeem.selector, abi.encode(people[4], 64, 1), row));
        check(!done || abi.decode(answer, (uint256)) == 0, "nothing is paid");
        (, uint128 claimed,) = escrow.channelOf(escrow.channelIdOf(channel));
        checkEqual(0, claimed, "nothing is claimed");
    }

    /// @dev Cases 40 and 41: an allowance is its signer's alone, up to its cap in sum, until it expires or is revoked.
    function test_an_allowance_ends_where_it_says() external {
        address payer = people[0];
        address signer = vm.addr(sessionKeyOf[payer]);
        vm.prank(payer);
        escrow.deposit(payer, 100);
        IComputeEscrow.ChannelAllowance memory allowance =
            IComputeEscrow.ChannelAllowance(payer, signer, 10, uint64(block.timestamp), 0, 0);
        bytes32 id = escrow.digestOfChannelAllowance(allowance);
        bytes memory signature = signed(keyOf[payer], id, true);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.OnlySigner.selector, signer, stranger));
        vm.prank(stranger);
        escrow.fundWithAllowance(allowance, signature, people[4], 0, 1);
        vm.prank(signer);
        escrow.fundWithAllowance(allowance, signature, people[4], 0, 10);
        vm.expectPartialRevert(IComputeEscrow.AllowanceExceeded.selector);
        vm.prank(signer);
        escrow.fundWithAllowance(allowance, signature, people[4], 1, 1);

        allowance.nonce = 1;
        id = escrow.digestOfChannelAllowance(allowance);
        signature = signed(keyOf[payer], id, true);
        vm.prank(payer);
        escrow.revokeAllowance(id);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.AllowanceWasRevoked.selector, id));
        vm.prank(signer);
        escrow.fundWithAllowance(allowance, signature, people[4], 0, 1);
        vm.warp(block.timestamp + 1);
        vm.expectPartialRevert(IComputeEscrow.AllowanceExpired.selector);
        vm.prank(signer);
        escrow.fundWithAllowance(allowance, signature, people[4], 0, 1);
    }

    /// @dev Case 144: once pay goes elsewhere, the payee's own key moves it no more.
    function test_a_hot_key_does_not_redirect_pay() external {
        address payee = people[4];
        vm.prank(payee);
        escrow.setPayoutAddress(payee, appOwner);
        vm.expectRevert(abi.encodeWithSelector(IComputeEscrow.OnlyPayoutAddress.selector, appOwner, payee));
        vm.prank(payee);
        escrow.setPayoutAddress(payee, payee);
    }

    /// @dev Cases 18 and 52: coin sent straight to a contract is refused; no verb is payable.
    function test_no_contract_takes_coin() external {
        address[5] memory all = [address(escrow), address(staking), address(market), address(court), address(registry)];
        vm.deal(address(this), 10);
        for (uint256 i; i < all.length; ++i) {
            // solhint-disable-next-line avoid-low-level-calls
            (bool done,) = all[i].call{value: 1}("");
            check(!done, "coin is refused");
        }
    }

    /// @dev Case 61: who stands behind itself with stake can be no key of another.
    function test_a_staked_provider_is_no_key() external {
        address key = people[5];
        vm.prank(key);
        staking.stake(UNIT);
        bytes memory consent = signed(keyOf[key], staking.digestOfOperatorKey(people[4], key), false);
        vm.expectRevert(abi.encodeWithSelector(IProviderStaking.KeyIsProvider.selector, key));
        vm.prank(people[4]);
        staking.bindOperatorKey(key, consent);
    }

    function _digestOfVoucher(IComputeEscrow.Channel memory channel, uint256 total) private view returns (bytes32) {
        bytes32 inside = keccak256(
            abi.encode(
                keccak256("Voucher(address payer,address provider,uint96 salt,uint128 total,bytes32 receipt)"),
                channel.payer,
                channel.provider,
                channel.salt,
                total,
                0
            )
        );
        return keccak256(abi.encodePacked(hex"1901", ITallystickDomain(address(escrow)).domainSeparator(), inside));
    }

    function _receipt(address provider, uint64 endedAtMs, uint128 total)
        private
        view
        returns (IDisputeCourt.SignedReceipt memory shown)
    {
        ITaskMarket.Receipt memory receipt;
        receipt.provider = provider;
        receipt.route = bytes32("route");
        receipt.endedAtMs = endedAtMs;
        receipt.total = total;
        shown.receipt = receipt;
        (shown.r, shown.vs) = signedWords(keyOf[provider], market.digestOfReceipt(receipt));
    }
}
