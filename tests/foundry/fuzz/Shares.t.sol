// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FeeStream} from "../../../contracts/libraries/FeeStream.sol";
import {SharePot} from "../../../contracts/libraries/SharePot.sol";
import {Check} from "../base/Check.sol";

/// @notice Pots and streams against exact rationals (cases 53, 57, 59, 63, 66).
contract SharesFuzz is Check {
    using SharePot for SharePot.Pot;

    SharePot.Pot private _pot;

    /// @dev Whatever came before: in and out again never profits, and costs the holder no more than a share's price.
    function testFuzz_in_and_out_never_profits(uint128 before, uint128 slash, uint128 amount) external {
        before = uint128(1 + before % 1e30);
        amount = uint128(1 + amount % 1e30);
        _pot.add(before);
        (bool voided,) = _pot.slash(uint128(slash % (uint256(before) + 1)));
        uint256 shares = _pot.add(amount);
        if (shares == 0) return;
        uint256 others = _pot.shares - shares;
        uint256 worth = SharePot.tokensDown(shares, _pot.tokens, _pot.shares);
        checkAtMost(voided || others == 0 ? _pot.tokens : amount, worth, "what comes back");
    }

    /// @dev (53): shares are the exact quotient rounded down, in a pot of any price that can come about.
    function testFuzz_shares_are_rounded_down(uint128 tokens, uint128 price, uint128 amount) external pure {
        tokens = uint128(tokens % 1e30);
        amount = uint128(amount % 1e30);
        uint256 shares = uint256(tokens) * (1 + price % 2 ** 32);
        uint256 held = SharePot.sharesDown(amount, tokens, shares);
        uint256 exact = uint256(amount) * (shares + 1);
        checkAtMost(exact, held * (uint256(tokens) + 1), "not above");
        checkAtMost((held + 1) * (uint256(tokens) + 1) - 1, exact, "not below by a share");
        if (shares == tokens) checkEqual(amount, held, "a share is a token while nothing was slashed");
    }

    /// @dev While a pot was never slashed a share is a token, exactly.
    function testFuzz_an_unslashed_share_is_a_token(uint128 first, uint128 amount) external {
        first = uint128(1 + first % 1e30);
        amount = uint128(1 + amount % 1e30);
        checkEqual(first, _pot.add(first), "the first holder's");
        checkEqual(amount, _pot.add(amount), "the next one's");
    }

    /// @dev (53): a first holder of one unit takes no more than a unit from the next.
    function testFuzz_a_first_holder_takes_nothing(uint128 first, uint128 amount) external {
        first = uint128(1 + first % 1e24);
        amount = uint128(1 + amount % 1e30);
        _pot.add(first);
        uint256 shares = _pot.add(amount);
        uint256 worth = SharePot.tokensDown(shares, _pot.tokens, _pot.shares);
        checkAtMost(worth + 1, amount, "loss of the second");
        checkAtMost(amount, worth, "no gain either");
    }

    /// @dev (66): whatever the slash, what all holders have is what is left, to less than a unit for each.
    function testFuzz_a_slash_takes_from_all_alike(uint128 one, uint128 other, uint128 slash) external {
        one = uint128(1e6 + one % 1e30);
        other = uint128(1e6 + other % 1e30);
        uint256 held = _pot.add(one);
        uint256 alsoHeld = _pot.add(other);
        uint256 sum = uint256(one) + other;
        slash = uint128(slash % (sum + 1));
        (bool voided, uint128 rest) = _pot.slash(slash);
        if (voided) {
            checkEqual(sum - slash, rest, "what nobody holds");
            checkEqual(0, _pot.tokens, "the pot starts afresh");
            checkEqual(1, _pot.generation, "a new generation");
            checkEqual(0, _pot.valueDown(held, 0), "old shares are void");
            return;
        }
        uint256 left = sum - slash;
        checkEqual(left, _pot.tokens, "to the unit");
        uint256 worth = _pot.valueDown(held, 0);
        uint256 alsoWorth = _pot.valueDown(alsoHeld, 0);
        checkAtMost(left, worth + alsoWorth, "never more than is there");
        // left * one / sum, exact; the virtual share and token cost less than two units.
        checkAtMost(left * one, worth == 0 ? 0 : (worth - 1) * sum, "not above the exact part by a unit");
        checkAtMost((worth + 2) * sum, left * one, "not below it by two");
    }

    /// @dev (66): case 66 asks for a unit a slash; whatever their number, each holder stays within one unit of the exact
    /// rational, what was slashed is gone to the unit, and what is left leaves.
    function testFuzz_fifty_small_slashes_stay_exact(uint128 one, uint128 other, uint256 seed) external {
        one = uint128(1e6 + one % 1e30);
        other = uint128(1e6 + other % 1e30);
        uint256 held = _pot.add(one);
        uint256 alsoHeld = _pot.add(other);
        uint256 sum = uint256(one) + other;
        uint256 left = sum;
        for (uint256 i; i < 50; ++i) {
            uint128 amount = uint128(1 + mix(seed, i) % (i % 5 == 4 ? left / 100 : 3));
            (bool voided, uint128 rest) = _pot.slash(amount);
            check(!voided && rest == 0, "shared");
            left -= amount;
            checkEqual(left, _pot.tokens, "to the unit");
            _checkExactPart(left * one, sum, _pot.valueDown(held, 0));
            _checkExactPart(left * other, sum, _pot.valueDown(alsoHeld, 0));
        }
        checkEqual(left, uint256(_pot.remove(held)) + _pot.remove(alsoHeld), "all of it leaves");
    }

    /// @dev Less than one above and less than one below numerator / denominator.
    function _checkExactPart(uint256 numerator, uint256 denominator, uint256 worth) private pure {
        check(worth * denominator < numerator + denominator, "above the exact part by a unit");
        check((worth + 1) * denominator > numerator, "below the exact part by a unit");
    }

    function testFuzz_the_last_one_out_takes_what_is_there(uint128 amount, uint128 slash) external {
        amount = uint128(1 + amount % 1e30);
        uint256 held = _pot.add(amount);
        (bool voided,) = _pot.slash(uint128(slash % amount));
        if (voided) return;
        uint128 left = _pot.tokens;
        checkEqual(left, _pot.remove(held), "everything");
        checkEqual(0, _pot.tokens, "nothing stays");
        checkEqual(0, _pot.shares, "no share stays");
    }

    /// @dev Each wei that was added has flowed, is carried, or is still to flow: nothing is lost, nothing made.
    function testFuzz_a_stream_loses_nothing(uint128 amount, uint128 shares, uint32[6] calldata steps) external pure {
        amount = uint128(1 + amount % 1e30);
        shares = uint128(1 + shares % 1e30);
        FeeStream.Stream memory stream;
        stream.updatedAt = 1_800_000_000;
        FeeStream.add(stream, amount, 7 days);
        uint256 time = 1_800_000_000;
        uint256 before = stream.remaining;
        for (uint256 i; i < steps.length; ++i) {
            time += steps[i] % (3 days);
            stream = FeeStream.advanced(stream, shares, time);
            checkAtMost(before, stream.remaining, "only less is left");
            before = stream.remaining;
        }
        uint256 flowed = uint256(shares) * stream.perShare + stream.carry;
        checkEqual(uint256(amount) << 96, (uint256(stream.remaining) << 96) + flowed, "to the last fraction");
        check(stream.carry < shares, "the carry is less than one for each share");
        if (time >= 1_800_000_000 + 7 days) checkEqual(0, stream.remaining, "all has flowed");
    }

    /// @dev Never before its time: at most the part of the time that has passed.
    function testFuzz_a_stream_flows_evenly(uint128 amount, uint32 elapsed) external pure {
        amount = uint128(1 + amount % 1e30);
        uint256 seconds_ = elapsed % (7 days);
        FeeStream.Stream memory stream;
        stream.updatedAt = 1_800_000_000;
        FeeStream.add(stream, amount, 7 days);
        stream = FeeStream.advanced(stream, 1, 1_800_000_000 + seconds_);
        uint256 flowed = amount - stream.remaining;
        checkAtMost(uint256(amount) * seconds_, flowed * 7 days, "not before its time");
        checkAtMost((flowed + 1) * 7 days, uint256(amount) * seconds_, "and not after it");
    }

    /// @dev Added to a stream that still flows: the mean of both ends, weighted, rounded up to 2^-32 seconds; its end in whole
    /// seconds, rounded up too.
    function testFuzz_a_second_amount_ends_at_the_mean(uint128 first, uint128 second, uint32 elapsed) external pure {
        first = uint128(1 + first % 1e30);
        second = uint128(1 + second % 1e30);
        uint256 seconds_ = elapsed % (7 days);
        uint256 start = 1_800_000_000;
        FeeStream.Stream memory stream;
        stream.updatedAt = uint64(start);
        FeeStream.add(stream, first, 7 days);
        checkEqual(start + 7 days, FeeStream.endsAt(stream), "alone: its whole time");
        stream = FeeStream.advanced(stream, 1, start + seconds_);
        uint256 left = stream.remaining;
        checkEqual(start + 7 days, FeeStream.endsAt(stream), "as before");
        FeeStream.add(stream, second, 7 days);
        checkEqual(left + second, stream.remaining, "both");
        uint256 whole = uint256(7 days) << 32;
        uint256 weighted = left * (whole - (seconds_ << 32)) + second * whole;
        uint256 mean = weighted / (left + second);
        if (weighted % (left + second) != 0) ++mean;
        checkEqual(mean, stream.timeLeft, "the mean, rounded up");
        uint256 ends = mean >> 32;
        if (mean % (1 << 32) != 0) ++ends;
        checkEqual(start + seconds_ + ends, FeeStream.endsAt(stream), "in whole seconds, rounded up");
        FeeStream.add(stream, 0, 1);
        checkAtMost(stream.timeLeft, mean, "nothing more ends no sooner");
    }

    /// @dev What positions left to the stream is taken out in whole units; the rest of a unit stays, and counts once.
    function test_a_drain_takes_whole_units() external pure {
        FeeStream.Stream memory stream;
        stream.remaining = 5;
        stream.timeLeft = 7;
        stream.carry = (3 << 96) + 11;
        checkEqual(8, FeeStream.drain(stream), "five to flow, three carried");
        checkEqual(0, stream.remaining, "nothing flows");
        checkEqual(0, stream.timeLeft, "for no time");
        checkEqual(11, stream.carry, "less than a unit");
        checkEqual(0, FeeStream.drain(stream), "once");
    }

    /// @dev A slash that leaves a 2^32nd of a pot, or less, makes it void; one token more is shared.
    function testFuzz_a_pot_is_void_where_all_but_dust_is_gone(uint128 tokens) external pure {
        uint256 dust = tokens / 2 ** 32;
        check(SharePot.isVoid(dust, tokens), "dust");
        check(SharePot.isVoid(0, tokens), "no tokens");
        check(!SharePot.isVoid(dust + 1, tokens), "one more");
    }

    /// @dev A share of a newcomer is worth 2^-32 tokens at least: one more share for the same tokens, and the pot is spent.
    function testFuzz_a_pot_is_spent_below_the_least_share(uint64 tokens) external {
        _pot.tokens = tokens;
        _pot.shares = ((uint256(tokens) + 1) << 32) - 1;
        check(!_pot.isSpent(), "as many as may be");
        ++_pot.shares;
        check(_pot.isSpent(), "one more");
    }

    function test_shares_of_another_generation_are_worth_nothing() external {
        _pot.add(100);
        checkEqual(40, _pot.valueDown(40, 0), "of this one");
        checkEqual(0, _pot.valueDown(0, 0), "none");
        checkEqual(0, _pot.valueDown(40, 1), "of another");
        (bool voided, uint128 rest) = _pot.slash(100);
        check(voided, "void");
        checkEqual(0, rest, "nothing is left");
        checkEqual(1, _pot.generation, "the next");
        checkEqual(0, _pot.valueDown(40, 0), "of an earlier one");
    }
}
