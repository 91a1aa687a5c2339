// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {vm} from "../base/Vm.sol";
import {EscrowActs} from "./EscrowActs.sol";
import {StakingActs} from "./StakingActs.sol";

/// @notice Payers open channels, sign ever higher vouchers, close; providers redeem and release.
abstract contract ChannelActs is EscrowActs, StakingActs {
    struct Line {
        IComputeEscrow.Channel channel;
        bytes32 id;
        uint256 deposited;
        uint256 claimed;
        uint256 closeAt;
        uint256 highest;
    }

    struct Grant {
        IComputeEscrow.ChannelAllowance allowance;
        bytes32 id;
        uint256 spent;
        bool revoked;
    }

    Line[] internal lines;
    mapping(bytes32 channelId => uint256) internal lineBy;
    Grant[] internal grants;

    /// @notice What redemptions paid, over all channels.
    uint256 public redeemed;

    function lineCount() external view returns (uint256) {
        return lines.length;
    }

    function lineAt(uint256 i) external view returns (Line memory) {
        return lines[i];
    }

    function grantCount() external view returns (uint256) {
        return grants.length;
    }

    function grantAt(uint256 i) external view returns (Grant memory) {
        return grants[i];
    }

    function owedByEscrow() public view virtual override returns (uint256 owed) {
        owed = super.owedByEscrow();
        for (uint256 i; i < lines.length; ++i) {
            (uint128 deposited, uint128 claimed,) = escrow.channelOf(lines[i].id);
            owed += deposited - claimed;
        }
    }

    // ------------------------------------------------------------------ in

    function escrow_depositToChannel(uint256 seed, uint256 amountSeed) external {
        (IComputeEscrow.Channel memory channel, uint128 amount, bool good) = _toBeFunded(seed, amountSeed);
        address from = consumerBy(mix(seed, 1));
        good = good && payment.balanceOf(from) >= amount;
        arm(seed);
        bytes memory data = abi.encodeCall(IComputeEscrow.depositToChannel, (channel, amount));
        (bool done,) = attempt(from, address(escrow), data, good, Law.Voucher, "depositToChannel");
        if (!done) return;
        paidIn += amount;
        _funded(channel, amount);
    }

    function escrow_depositToChannelWithPermit(uint256 seed, uint256 amountSeed) external {
        (IComputeEscrow.Channel memory channel, uint128 amount, bool good) = _toBeFunded(seed, amountSeed);
        address from = people[seed % 2];
        good = good && payment.balanceOf(from) >= amount;
        bytes32 inside =
            keccak256(abi.encode(PERMIT, from, escrow, type(uint256).max, payment.nonces(from), block.timestamp));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keyOf[from], tokenDigest(inside));
        arm(seed);
        bytes memory data =
            abi.encodeCall(IComputeEscrow.depositToChannelWithPermit, (channel, amount, block.timestamp, v, r, s));
        (bool done,) = attempt(from, address(escrow), data, good, Law.Voucher, "depositToChannelWithPermit");
        if (!done) return;
        paidIn += amount;
        _funded(channel, amount);
    }

    function escrow_depositToChannelWithAuthorization(uint256 seed, uint256 amountSeed) external {
        (IComputeEscrow.Channel memory channel, uint128 amount, bool good) = _toBeFunded(seed, amountSeed);
        address from = people[seed % 2];
        bytes32 salt = bytes32(mix(seed, amountSeed));
        bytes32 nonce = escrow.channelAuthorizationNonce(escrow.channelIdOf(channel), salt);
        good = good && payment.balanceOf(from) >= amount && !payment.authorizationState(from, nonce);
        // Signed for this channel: a relayer that names another finds nothing.
        if (seed % 16 == 9) (nonce, good) = (escrow.authorizationNonce(from, salt), false);
        arm(seed);
        bytes memory data = _authorizedChannel(from, channel, amount, nonce, salt);
        (bool done,) = attempt(stranger, address(escrow), data, good, Law.Voucher, "depositToChannelWithAuthorization");
        if (!done) return;
        paidIn += amount;
        _funded(channel, amount);
    }

    function _authorizedChannel(
        address from,
        IComputeEscrow.Channel memory channel,
        uint128 amount,
        bytes32 nonce,
        bytes32 salt
    ) private view returns (bytes memory) {
        bytes32 inside = keccak256(
            abi.encode(AUTHORIZATION, from, escrow, amount, uint256(0), type(uint256).max, nonce)
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keyOf[from], tokenDigest(inside));
        return abi.encodeCall(
            IComputeEscrow.depositToChannelWithAuthorization,
            (from, channel, amount, 0, type(uint256).max, salt, v, r, s)
        );
    }

    function escrow_fund(uint256 seed, uint256 amountSeed) external {
        (IComputeEscrow.Channel memory channel, uint128 amount, bool good) = _toBeFunded(seed, amountSeed);
        if (seed % 4 != 0) amount = uint128(least(amount, available[channel.payer] / 2 + 1));
        address from = seed % 16 == 7 ? stranger : channel.payer;
        good = good && from == channel.payer && available[channel.payer] >= amount;
        bytes memory data = abi.encodeCall(IComputeEscrow.fund, (channel, amount));
        (bool done,) = attempt(from, address(escrow), data, good, Law.Voucher, "fund");
        if (!done) return;
        available[channel.payer] -= amount;
        _funded(channel, amount);
    }

    function escrow_fundWithAllowance(uint256 seed, uint256 amountSeed) external {
        Grant storage grant = _grantBy(seed);
        IComputeEscrow.ChannelAllowance memory allowance = grant.allowance;
        address provider = providerBy(mix(seed, 5));
        uint96 salt = uint96(seed >> 90) % 2;
        uint256 reach = least(allowance.cap - grant.spent, available[allowance.payer]);
        uint128 amount = uint128(within(amountSeed, 0, reach + (seed % 8 == 0 ? 1 : 0)));
        address from = seed % 16 == 3 ? stranger : allowance.signer;
        bytes memory signature = signed(keyOf[allowance.payer], grant.id, seed % 2 == 0 && allowance.payer != people[2]);
        bool good = amount != 0 && amount <= reach && from == allowance.signer && !grant.revoked
            && block.timestamp <= allowance.expiresAt && allowance.payer != people[3] && provider != address(0);
        bytes memory data =
            abi.encodeCall(IComputeEscrow.fundWithAllowance, (allowance, signature, provider, salt, amount));
        (bool done,) = attempt(from, address(escrow), data, good, Law.SessionKey, "fundWithAllowance");
        if (!done) return;
        grant.spent += amount;
        available[allowance.payer] -= amount;
        _funded(IComputeEscrow.Channel(allowance.payer, allowance.signer, provider, salt), amount);
    }

    function escrow_revokeAllowance(uint256 seed) external {
        if (seed % 2 == 0) revert Refused("the allowance stays");
        Grant storage grant = _grantBy(seed);
        bytes memory data = abi.encodeCall(IComputeEscrow.revokeAllowance, (grant.id));
        (bool done,) =
            attempt(grant.allowance.payer, address(escrow), data, !grant.revoked, Law.SessionKey, "revokeAllowance");
        if (done) grant.revoked = true;
    }

    // ------------------------------------------------------------------ out

    function escrow_requestClose(uint256 seed) external {
        Line storage line = _lineBy(seed);
        address from = seed % 16 == 5 ? stranger : line.channel.payer;
        bool good = from == line.channel.payer && line.closeAt == 0 && line.deposited != line.claimed;
        bytes memory data = abi.encodeCall(IComputeEscrow.requestClose, (line.channel));
        (bool done,) = attempt(from, address(escrow), data, good, Law.Exit, "requestClose");
        if (done) line.closeAt = block.timestamp + CLOSE_S;
    }

    function escrow_cancelClose(uint256 seed) external {
        Line storage line = _closing(seed);
        if (line.closeAt == 0 && seed % 2 == 1 && line.deposited != line.claimed) _requestClose(line);
        address from = seed % 16 == 5 ? stranger : line.channel.payer;
        bytes memory data = abi.encodeCall(IComputeEscrow.cancelClose, (line.channel));
        bool good = from == line.channel.payer && line.closeAt != 0;
        (bool done,) = attempt(from, address(escrow), data, good, Law.Exit, "cancelClose");
        if (done) line.closeAt = 0;
    }

    function escrow_close(uint256 seed) external {
        Line storage line = _closing(seed);
        if (line.closeAt == 0 && seed % 8 != 0 && line.deposited != line.claimed) _requestClose(line);
        if (seed % 2 == 1 && line.closeAt > block.timestamp) later(line.closeAt);
        bool good = line.closeAt != 0 && block.timestamp >= line.closeAt;
        bytes memory data = abi.encodeCall(IComputeEscrow.close, (line.channel));
        (bool done,) = attempt(stranger, address(escrow), data, good, Law.Exit, "close");
        if (!done) return;
        available[line.channel.payer] += line.deposited - line.claimed;
        line.deposited = line.claimed;
        line.closeAt = 0;
    }

    function escrow_release(uint256 seed, uint256 amountSeed) external {
        Line storage line = _lineBy(seed);
        uint256 open = line.deposited - line.claimed;
        uint128 amount = uint128(within(amountSeed, 0, open / 4 + (seed % 8 == 0 ? open + 1 : 0)));
        address from = vm.addr(penOf2(line.channel.provider, mix(seed, 4)));
        if (seed % 16 == 11) from = line.channel.payer;
        bool good = amount != 0 && amount <= open
            && (from == line.channel.provider || (boundTo[from] == line.channel.provider && retiredAt[from] == 0));
        bytes memory data = abi.encodeCall(IComputeEscrow.release, (line.channel, amount));
        (bool done,) = attempt(from, address(escrow), data, good, Law.Voucher, "release");
        if (!done) return;
        line.deposited -= amount;
        available[line.channel.payer] += amount;
    }

    /// @dev A provider that is no key's address of ours sends under some other name.
    function penOf2(address provider, uint256 seed) private view returns (uint256) {
        uint256 pen = penOf(provider, seed);
        return pen == 0 ? 1 : pen;
    }

    // ------------------------------------------------------------------ vouchers

    function escrow_redeem(uint256 seed) external {
        Line storage line = _lineBy(seed);
        address provider = line.channel.provider;
        (IComputeEscrow.Row[] memory rows, uint256 expected) = _rows(line, seed);
        if (seed % 32 == 17) (provider, expected) = (stranger, 0);
        uint128[] memory foretold = escrow.redeemable(provider, rows);
        uint256 sum;
        for (uint256 i; i < foretold.length; ++i) {
            sum += foretold[i];
        }
        if (sum != expected || foretold.length != rows.length) {
            violate(Law.Voucher, "redeemable foretold something else");
        }
        vm.prank(stranger);
        uint128 paid = escrow.redeem(provider, rows);
        if (paid != expected) violate(Law.Voucher, "redeem paid something else");
        credit[provider] += paid;
        redeemed += paid;
        if (paid == 0) revert Refused("redeem found nothing to pay");
        line.claimed += paid;
    }

    /// @notice `withdrawCredit` with vouchers in hand.
    function escrow_withdrawCreditWithRows(uint256 seed) external {
        Line storage line = _lineBy(seed);
        address provider = line.channel.provider;
        (IComputeEscrow.Row[] memory rows, uint256 expected) = _rows(line, seed);
        uint256 sum = credit[provider] + expected;
        arm(seed);
        (bool done, bytes memory answer) = attempt(
            stranger,
            address(escrow),
            abi.encodeCall(IComputeEscrow.withdrawCredit, (provider, rows)),
            sum != 0,
            Law.Voucher,
            "withdrawCredit with rows"
        );
        if (!done) return;
        uint256 fee = sum * PROTOCOL_FEE_BPS / 10_000;
        if (abi.decode(answer, (uint128)) != sum - fee) {
            violate(Law.Conservation, "withdrawCredit with rows paid else");
        }
        line.claimed += expected;
        redeemed += expected;
        credit[provider] = 0;
        fees[provider] += fee;
        paidOut += sum - fee;
    }

    /// @dev One to three vouchers of one channel, not always rising, some of them bad; and what they pay together.
    function _rows(Line storage line, uint256 seed)
        private
        returns (IComputeEscrow.Row[] memory rows, uint256 expected)
    {
        rows = new IComputeEscrow.Row[](1 + seed % 3);
        uint256 claimed = line.claimed;
        for (uint256 i; i < rows.length; ++i) {
            uint256 chance = mix(seed, 30 + i);
            uint128 total = _nextTotal(line, chance);
            bool good = _fill(rows[i], line.channel, total, chance);
            uint256 reach = least(total, line.deposited);
            if (good && reach > claimed) {
                expected += reach - claimed;
                claimed = reach;
            }
            if (good && total > line.highest) line.highest = total;
        }
    }

    /// @dev Mostly more than before; sometimes an older one, sometimes more than is there (43), sometimes everything.
    function _nextTotal(Line storage line, uint256 chance) private view returns (uint128) {
        uint256 kind = chance % 16;
        if (kind < 3) return uint128(within(chance >> 8, 0, line.claimed));
        if (kind == 3) return type(uint128).max;
        if (kind == 4) return uint128(line.deposited + within(chance >> 8, 0, TALLY));
        return uint128(line.claimed + within(chance >> 8, 0, (line.deposited - line.claimed) / 3 + 1));
    }

    function _fill(IComputeEscrow.Row memory row, IComputeEscrow.Channel memory channel, uint128 total, uint256 chance)
        private
        view
        returns (bool good)
    {
        good = true;
        row.payerAndSalt = (uint256(uint160(channel.payer)) << 96) | channel.salt;
        row.total = total;
        row.receipt = bytes32(chance);
        bytes32 digest = escrow.digestOfVoucher(
            IComputeEscrow.Voucher(channel.payer, channel.provider, channel.salt, total, row.receipt)
        );
        uint256 pen = sessionKeyOf[channel.payer];
        uint256 twist = (chance >> 200) % 32;
        if (twist == 0) (pen, good) = (keyOf[stranger], false);
        (row.r, row.vs) = signedWords(pen, digest);
        if (twist == 1) (row.total, good) = (total ^ 1, false);
        if (twist == 2) (row.receipt, good) = (bytes32(chance + 1), false);
        if (twist == 3) (row.payerAndSalt, good) = (row.payerAndSalt ^ 4, false);
    }

    /// @dev One voucher for all of a fresh deposit.
    function payThrough(IComputeEscrow.Channel memory channel, uint128 amount) internal {
        if (available[channel.payer] < amount) return;
        vm.prank(channel.payer);
        escrow.fund(channel, amount);
        available[channel.payer] -= amount;
        _funded(channel, amount);
        Line storage line = lines[lineBy[escrow.channelIdOf(channel)] - 1];
        IComputeEscrow.Row[] memory rows = new IComputeEscrow.Row[](1);
        _fill(rows[0], channel, uint128(line.deposited), 1 << 203);
        uint256 paid = line.deposited - line.claimed;
        if (escrow.redeem(channel.provider, rows) != paid) violate(Law.Voucher, "a voucher for everything paid less");
        line.claimed = line.deposited;
        if (line.highest < line.claimed) line.highest = line.claimed;
        credit[channel.provider] += paid;
        redeemed += paid;
    }

    // ------------------------------------------------------------------ private

    function _toBeFunded(uint256 seed, uint256 amountSeed)
        private
        view
        returns (IComputeEscrow.Channel memory channel, uint128 amount, bool good)
    {
        address payer = consumerBy(seed);
        address provider = providerBy(seed >> 30);
        // Few salts: a channel is funded again and again (42).
        channel = IComputeEscrow.Channel(payer, vm.addr(sessionKeyOf[payer]), provider, uint96(seed >> 90) % 2);
        amount = uint128(within(amountSeed, seed % 32 == 1 ? 0 : 1, 500 * TALLY));
        good = amount != 0;
        if (seed % 64 == 33) (channel.signer, good) = (address(0), false);
        if (seed % 64 == 34) (channel.provider, good) = (address(escrow), false);
        if (seed % 64 == 35) (channel.provider, good) = (address(0), false);
    }

    function _funded(IComputeEscrow.Channel memory channel, uint256 amount) private {
        bytes32 id = keccak256(abi.encode(channel.payer, channel.signer, channel.provider, channel.salt));
        if (lineBy[id] == 0) {
            lines.push().channel = channel;
            lines[lines.length - 1].id = id;
            lineBy[id] = lines.length;
        }
        lines[lineBy[id] - 1].deposited += amount;
    }

    function _lineBy(uint256 seed) private view returns (Line storage) {
        if (lines.length == 0) revert Refused("there is no channel");
        return lines[(seed >> 8) % lines.length];
    }

    function _requestClose(Line storage line) private {
        vm.prank(line.channel.payer);
        escrow.requestClose(line.channel);
        line.closeAt = block.timestamp + CLOSE_S;
    }

    function _closing(uint256 seed) private view returns (Line storage line) {
        line = _lineBy(seed);
        for (uint256 i; i < lines.length && seed % 8 != 0; ++i) {
            Line storage other = lines[((seed >> 8) + i) % lines.length];
            if (other.closeAt != 0) return other;
        }
    }

    function _grantBy(uint256 seed) private returns (Grant storage grant) {
        if (grants.length != 0 && seed % 4 < 2) return grants[(seed >> 8) % grants.length];
        address payer = people[(seed >> 40) % CONSUMERS];
        grant = grants.push();
        grant.allowance = IComputeEscrow.ChannelAllowance(
            payer,
            vm.addr(sessionKeyOf[payer]),
            uint128(within(mix(seed, 1), 0, 200 * TALLY)),
            uint64(block.timestamp + (seed >> 50) % 5 days),
            bytes32(seed % 2),
            grants.length
        );
        grant.id = escrow.digestOfChannelAllowance(grant.allowance);
    }
}
