// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {vm} from "../base/Vm.sol";
import {Model} from "./Model.sol";

/// @notice Providers bond, unbond, offer GPUs and lend keys.
abstract contract StakingActs is Model {
    bytes32 internal constant STAKE_PERMIT =
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");

    struct Request {
        address provider;
        uint256 id;
        uint256 withdrawableAt;
        bool withdrawn;
    }

    Request[] internal requests;
    mapping(address provider => uint256[]) internal operatorKeys;
    mapping(address key => address) internal boundTo;
    mapping(address key => uint256) internal retiredAt;
    uint256 internal nextOperator = 0x0BE;

    function staking_stake(uint256 seed, uint256 amountSeed) external {
        address from = providerBy(seed);
        uint128 amount = uint128(within(amountSeed, 0, 5 * UNIT));
        bool fits = amount != 0 && bond.balanceOf(from) >= amount && from != treasury;
        (bool done,) =
            attempt(from, address(staking), abi.encodeCall(IProviderStaking.stake, (amount)), fits, Law.Stake, "stake");
        if (done) stakedIn += amount;
    }

    function staking_stakeWithPermit(uint256 seed, uint256 amountSeed) external {
        address from = providerBy(seed);
        uint128 amount = uint128(within(amountSeed, 0, 5 * UNIT));
        uint256 key = keyOf[from] == 0 ? 1 : keyOf[from];
        bytes32 inside =
            keccak256(abi.encode(STAKE_PERMIT, from, staking, type(uint256).max, bond.nonces(from), block.timestamp));
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(key, keccak256(abi.encodePacked(hex"1901", bond.DOMAIN_SEPARATOR(), inside)));
        bool fits = amount != 0 && bond.balanceOf(from) >= amount && from != treasury
            && bond.allowance(from, address(staking)) >= amount;
        bytes memory data = abi.encodeCall(IProviderStaking.stakeWithPermit, (amount, block.timestamp, v, r, s));
        (bool done,) = attempt(from, address(staking), data, fits, Law.Stake, "stakeWithPermit");
        if (done) stakedIn += amount;
    }

    function staking_requestUnbond(uint256 seed, uint256 amountSeed) external {
        address from = providerBy(seed);
        (uint128 bonded,) = staking.stakeOf(from);
        uint256 free = unbondable(from);
        uint128 amount = uint128(within(amountSeed, 0, seed % 4 == 0 ? uint256(bonded) + 1 : free));
        (bool done, bytes memory answer) = attempt(
            from,
            address(staking),
            abi.encodeCall(IProviderStaking.requestUnbond, (amount)),
            amount != 0 && amount <= free,
            Law.Exit,
            "requestUnbond"
        );
        if (!done) return;
        requests.push(Request(from, abi.decode(answer, (uint256)), block.timestamp + UNBONDING_S, false));
    }

    function _makeRequest(uint256 seed) private {
        address from = people[PROVIDER_FROM + (seed >> 4) % PROVIDERS];
        uint256 amount = unbondable(from) / 10;
        if (amount < 2) return;
        vm.prank(from);
        requests.push(Request(from, staking.requestUnbond(uint128(amount)), block.timestamp + UNBONDING_S, false));
    }

    function unbondable(address provider) internal view virtual returns (uint256) {
        (uint128 bonded,) = staking.stakeOf(provider);
        (uint16 seats,) = staking.seatsOf(provider);
        uint256 backing = (uint256(staking.gpusOf(provider)) + seats) * UNIT;
        return bonded > backing ? bonded - backing : 0;
    }

    function staking_withdrawStake(uint256 seed) external {
        if (seed % 4 == 3) _makeRequest(seed);
        if (requests.length == 0) revert Refused("there is no request");
        Request storage request = requests[(seed >> 8) % requests.length];
        for (uint256 step; step < requests.length && request.withdrawn && seed % 8 != 0; ++step) {
            request = requests[((seed >> 8) + step) % requests.length];
        }
        if (seed % 2 == 1 && request.withdrawableAt > block.timestamp) later(request.withdrawableAt);
        address from = seed % 16 == 1 ? stranger : request.provider;
        (uint128 amount,) = staking.unbondRequest(request.provider, request.id);
        uint256 before = bond.balanceOf(address(staking));
        bool due = !request.withdrawn && block.timestamp >= request.withdrawableAt && from == request.provider;
        (bool done,) = attempt(
            from,
            address(staking),
            abi.encodeCall(IProviderStaking.withdrawStake, (request.id, person(seed >> 30))),
            due,
            Law.Exit,
            "withdrawStake"
        );
        if (!done) return;
        request.withdrawn = true;
        uint256 paid = before - bond.balanceOf(address(staking));
        if (paid > amount) violate(Law.Stake, "withdrawStake paid more than was there");
        stakedOut += paid;
    }

    function staking_registerGpus(uint256 seed) external {
        address from = providerBy(seed);
        uint32 gpus = uint32(seed >> 100) % 6;
        bytes32 gpuSet = seed % 16 == 2 ? bytes32(0) : bytes32(mix(seed, 1));
        (uint128 bonded,) = staking.stakeOf(from);
        (uint16 seats,) = staking.seatsOf(from);
        bool fits = (gpus == 0 || gpuSet != 0) && (gpus == 0 || bonded >= (uint256(gpus) + seats) * UNIT)
            && boundTo[from] == address(0);
        attempt(
            from,
            address(staking),
            abi.encodeCall(IProviderStaking.registerGpus, (gpuSet, gpus)),
            fits,
            Law.Stake,
            "registerGpus"
        );
    }

    function staking_bindOperatorKey(uint256 seed) external {
        address from = providerBy(seed);
        uint256 secret = seed % 8 == 1 && nextOperator > 0x0BE ? nextOperator - 1 : nextOperator;
        address key = vm.addr(secret);
        bool consents = seed % 8 != 2;
        bytes32 digest = staking.digestOfOperatorKey(consents ? from : stranger, key);
        bytes memory data =
            abi.encodeCall(IProviderStaking.bindOperatorKey, (key, signed(secret, digest, seed % 2 == 0)));
        bool fits = boundTo[key] == address(0) && (consents || from == stranger);
        (bool done,) = attempt(from, address(staking), data, fits, Law.HotKey, "bindOperatorKey");
        if (!done) return;
        boundTo[key] = from;
        operatorKeys[from].push(secret);
        ++nextOperator;
    }

    function staking_retireOperatorKey(uint256 seed) external {
        if (nextOperator == 0x0BE) revert Refused("there is no key");
        uint256 keys = nextOperator - 0x0BE;
        address key = vm.addr(0x0BE + (seed >> 8) % keys);
        for (uint256 i; i < keys && retiredAt[key] != 0 && seed % 4 != 1; ++i) {
            key = vm.addr(0x0BE + ((seed >> 8) + i) % keys);
        }
        address from = seed % 8 == 0 ? person(seed >> 40) : boundTo[key];
        (bool done,) = attempt(
            from,
            address(staking),
            abi.encodeCall(IProviderStaking.retireOperatorKey, (key)),
            boundTo[key] == from && retiredAt[key] == 0,
            Law.HotKey,
            "retireOperatorKey"
        );
        if (done) retiredAt[key] = block.timestamp;
    }

    function staking_donate(uint256 amountSeed) external {
        uint256 amount = within(amountSeed, 1, TALLY);
        if (bond.balanceOf(stranger) < amount) revert Refused("the stranger has nothing to give");
        vm.prank(stranger);
        bond.transfer(address(staking), amount);
        stakeDonated += amount;
    }

    /// @dev The secret of a key that may sign for the provider now: its own, or one it lent.
    function penOf(address provider, uint256 seed) internal view returns (uint256) {
        uint256[] storage lent = operatorKeys[provider];
        if (seed % 2 == 0 && lent.length != 0) {
            uint256 secret = lent[(seed >> 8) % lent.length];
            if (retiredAt[vm.addr(secret)] == 0) return secret;
        }
        return keyOf[provider];
    }

    /// @dev One that may not.
    function strangePen(address provider, uint256 seed) internal view returns (uint256) {
        uint256[] storage lent = operatorKeys[provider];
        if (lent.length != 0) {
            uint256 secret = lent[(seed >> 8) % lent.length];
            if (retiredAt[vm.addr(secret)] != 0) return secret;
        }
        return keyOf[stranger];
    }
}
