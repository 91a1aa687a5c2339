// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {vm} from "../base/Vm.sol";
import {Model} from "./Model.sol";

/// @notice People pay in, take out and are paid; strangers give orders that only the market may give.
abstract contract EscrowActs is Model {
    bytes32 internal constant PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
    bytes32 internal constant AUTHORIZATION = keccak256(
        "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );

    mapping(address payee => address) internal payouts;
    /// @notice Fees that went to pools.
    uint256 public poolFees;

    function escrow_deposit(uint256 seed, uint256 amountSeed) external {
        (address from, address to, uint128 amount) = _gift(seed, amountSeed);
        arm(seed);
        bool fits = amount != 0 && to != address(escrow) && payment.balanceOf(from) >= amount && from != treasury;
        (bool done,) = attempt(
            from,
            address(escrow),
            abi.encodeCall(IComputeEscrow.deposit, (to, amount)),
            fits,
            Law.Conservation,
            "deposit"
        );
        if (done) _paidIn(to, amount);
    }

    function escrow_depositWithPermit(uint256 seed, uint256 amountSeed) external {
        (address from, address to, uint128 amount) = _gift(seed, amountSeed);
        arm(seed);
        bytes memory data = _permitted(from, to, amount, seed % 4 == 3);
        // The allowance is there anyway: a permit that somebody used up first is no failure (case 20).
        bool fits = amount != 0 && to != address(escrow) && payment.balanceOf(from) >= amount && from != treasury
            && payment.allowance(from, address(escrow)) >= amount;
        (bool done,) = attempt(from, address(escrow), data, fits, Law.Conservation, "depositWithPermit");
        if (done) _paidIn(to, amount);
    }

    function _permitted(address from, address to, uint128 amount, bool usedUp) private returns (bytes memory) {
        uint256 key = keyOf[from] == 0 ? 1 : keyOf[from];
        uint256 deadline = block.timestamp + 1;
        bytes32 inside = keccak256(abi.encode(PERMIT, from, escrow, type(uint256).max, payment.nonces(from), deadline));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, tokenDigest(inside));
        if (usedUp && vm.addr(key) == from) {
            IERC20Permit(address(payment)).permit(from, address(escrow), type(uint256).max, deadline, v, r, s);
        }
        return abi.encodeCall(IComputeEscrow.depositWithPermit, (to, amount, deadline, v, r, s));
    }

    function escrow_depositWithAuthorization(uint256 seed, uint256 amountSeed) external {
        (address from, address to, uint128 amount) = _gift(seed, amountSeed);
        if (keyOf[from] == 0 || vm.addr(keyOf[from]) != from) from = people[0];
        arm(seed);
        bool redirected = seed % 8 == 5;
        bytes memory data = _authorized(from, to, redirected ? stranger : to, amount, bytes32(mix(seed, 3)));
        bool fits = amount != 0 && to != address(escrow) && payment.balanceOf(from) >= amount
            && (!redirected || to == stranger)
            && !payment.authorizationState(from, escrow.authorizationNonce(to, bytes32(mix(seed, 3))));
        (bool done,) = attempt(stranger, address(escrow), data, fits, Law.Conservation, "depositWithAuthorization");
        if (done) _paidIn(to, amount);
    }

    /// @dev A relayer that names another account than the one signed for finds no authorization of that nonce.
    function _authorized(address from, address to, address signedFor, uint128 amount, bytes32 salt)
        private
        view
        returns (bytes memory)
    {
        bytes32 nonce = escrow.authorizationNonce(signedFor, salt);
        bytes32 inside =
            keccak256(abi.encode(AUTHORIZATION, from, escrow, amount, uint256(0), type(uint256).max, nonce));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(keyOf[from], tokenDigest(inside));
        return abi.encodeCall(
            IComputeEscrow.depositWithAuthorization, (from, to, amount, 0, type(uint256).max, salt, v, r, s)
        );
    }

    function escrow_withdraw(uint256 seed, uint256 amountSeed) external {
        address from = consumerBy(seed);
        uint128 amount = uint128(within(amountSeed, 0, available[from] + (seed % 4 == 0 ? 1 : 0)));
        address to = seed % 16 == 7 ? address(escrow) : person(seed >> 100);
        arm(seed);
        bool fits = amount != 0 && amount <= available[from] && to != address(escrow);
        (bool done,) = attempt(
            from, address(escrow), abi.encodeCall(IComputeEscrow.withdraw, (amount, to)), fits, Law.Exit, "withdraw"
        );
        if (!done) return;
        available[from] -= amount;
        paidOut += amount;
    }

    function escrow_withdrawCredit(uint256 seed) external {
        address payee = payeeWith(credit, seed);
        address payout = payouts[payee] == address(0) ? payee : payouts[payee];
        uint256 before = payment.balanceOf(payout);
        arm(seed);
        (bool done,) = attempt(
            stranger, address(escrow), _withdrawCreditCall(payee), credit[payee] != 0, Law.Exit, "withdrawCredit"
        );
        if (!done) return;
        uint256 fee = credit[payee] * PROTOCOL_FEE_BPS / 10_000;
        uint256 paid = credit[payee] - fee;
        if (payment.balanceOf(payout) != before + paid) {
            violate(Law.Conservation, "withdrawCredit paid something else");
        }
        credit[payee] = 0;
        fees[payee] += fee;
        paidOut += paid;
    }

    function _withdrawCreditCall(address payee) internal view virtual returns (bytes memory) {
        return abi.encodeCall(IComputeEscrow.withdrawCredit, (payee, new IComputeEscrow.Row[](0)));
    }

    function escrow_setPayoutAddress(uint256 seed) external {
        address payee = person(seed);
        address present = payouts[payee] == address(0) ? payee : payouts[payee];
        address from = seed % 4 == 0 ? person(seed >> 50) : present;
        address to = seed % 16 == 3 ? address(escrow) : seed % 16 == 5 ? address(0) : person(seed >> 100);
        bool fits = from == present && to != address(escrow) && to != address(0);
        (bool done,) = attempt(
            from,
            address(escrow),
            abi.encodeCall(IComputeEscrow.setPayoutAddress, (payee, to)),
            fits,
            Law.Exit,
            "setPayoutAddress"
        );
        if (done) payouts[payee] = to;
    }

    function escrow_shareFees(uint256 seed) external {
        address payee = payeeWith(fees, seed);
        uint256 before = payment.balanceOf(address(escrow));
        uint256 atTreasury = payment.balanceOf(treasury);
        bool hasPool = staking.hasPool(payee);
        arm(seed);
        (bool done,) = attempt(
            stranger,
            address(escrow),
            abi.encodeCall(IComputeEscrow.shareFees, (payee)),
            fees[payee] != 0,
            Law.Exit,
            "shareFees"
        );
        if (!done) return;
        uint256 toPool = hasPool ? fees[payee] * POOL_SHARE_BPS / 10_000 : 0;
        if (before - payment.balanceOf(address(escrow)) != fees[payee]) {
            violate(Law.Conservation, "shareFees moved something else");
        }
        if (payment.balanceOf(treasury) - atTreasury != fees[payee] - toPool) {
            violate(Law.Conservation, "shareFees paid the treasury something else");
        }
        poolFees += toPool;
        paidOut += fees[payee];
        fees[payee] = 0;
    }

    function escrow_donate(uint256 amountSeed) external {
        uint256 amount = within(amountSeed, 1, 10 * TALLY);
        if (payment.balanceOf(stranger) < amount) revert Refused("the stranger has nothing to give");
        payment.arm(address(0), "");
        vm.prank(stranger);
        payment.transfer(address(escrow), amount);
        donated += amount;
    }

    /// @dev Never: these three are the market's.
    function refused_marketOrders(uint256 seed) external {
        address who = person(seed);
        address whose = consumerBy(seed >> 20);
        uint128 amount = uint128(within(seed >> 40, 0, 100));
        bytes memory data = seed % 3 == 0
            ? abi.encodeCall(IComputeEscrow.lockAvailable, (whose, amount))
            : seed % 3 == 1
                ? abi.encodeCall(IComputeEscrow.unlock, (whose, amount))
                : abi.encodeCall(IComputeEscrow.payProviderFrom, (whose, 0, amount, who, who, 0, who, 0));
        attempt(who, address(escrow), data, false, Law.Conservation, "a stranger gave the escrow an order");
    }

    // ------------------------------------------------------------------ the payment token calls back

    /// @dev In half of the acts the token, an account with money of its own, calls a guarded verb in mid-transfer.
    function arm(uint256 seed) internal {
        uint256 choice = (seed >> 200) % 12;
        address target = address(escrow);
        bytes memory data;
        if (choice == 0) data = abi.encodeCall(IComputeEscrow.deposit, (address(payment), 1));
        else if (choice == 1) data = abi.encodeCall(IComputeEscrow.withdraw, (1, address(payment)));
        else if (choice == 2) data = _withdrawCreditCall(people[PROVIDER_FROM]);
        else if (choice == 3) data = abi.encodeCall(IComputeEscrow.shareFees, (people[PROVIDER_FROM]));
        else if (choice == 4) data = _withdrawCreditCall(dispatcher);
        else target = address(0);
        payment.arm(target, data);
    }

    // ------------------------------------------------------------------ private

    function _gift(uint256 seed, uint256 amountSeed) private view returns (address from, address to, uint128 amount) {
        from = consumerBy(seed);
        to = seed % 4 == 0 ? consumerBy(seed >> 60) : from;
        if (seed % 32 == 9) to = address(escrow);
        amount = uint128(within(amountSeed, seed % 16 == 0 ? 0 : 1, 5000 * TALLY));
    }

    function _paidIn(address to, uint256 amount) private {
        available[to] += amount;
        paidIn += amount;
    }

    function payeeWith(mapping(address person => uint256) storage book, uint256 seed) private view returns (address) {
        uint256 total = people.length;
        for (uint256 step; step < total && seed % 8 != 0; ++step) {
            address payee = people[((seed >> 8) + step) % total];
            if (book[payee] != 0) return payee;
        }
        return person(seed >> 8);
    }

    function tokenDigest(bytes32 inside) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", payment.DOMAIN_SEPARATOR(), inside));
    }
}
