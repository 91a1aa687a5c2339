// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Staking: who may serve, and what they stand to lose
/// @notice A provider's own stake, `unit` of it per GPU; the GPUs it offers; the keys that sign for it.
/// @dev Assumption about the staking token: plain ERC-20 that moves exactly what it is asked to move.
/// Bonded stake leaves in two steps: a request, on a clock of its own, then a withdrawal once `unbondingSeconds` have
/// passed. Neither new stake nor another request moves that clock.
interface IProviderStaking {
    // ------------------------------------------------------------------ events

    /// @notice `provider` added `amount`; `bonded` is its own stake after it.
    event Staked(address indexed provider, uint128 amount, uint128 bonded);

    /// @notice `amount` stopped backing the provider and can be withdrawn from `withdrawableAt` on.
    event UnbondRequested(
        address indexed provider, uint256 indexed requestId, uint128 amount, uint64 withdrawableAt, uint128 bonded
    );

    /// @notice An unbonding request was paid out.
    event StakeWithdrawn(address indexed provider, uint256 indexed requestId, address indexed to, uint128 amount);

    /// @notice `key` signs for `provider`, with its own consent, and never for another.
    event OperatorKeyBound(address indexed provider, address indexed key);

    /// @notice `key` proves nothing new; what it signed before can be held against the provider until `answerableUntil`.
    event OperatorKeyRetired(address indexed provider, address indexed key, uint64 answerableUntil);

    /// @notice `provider` offers `gpus` GPUs whose ids have the Merkle root `gpuSet`.
    event GpusRegistered(address indexed provider, uint32 gpus, bytes32 gpuSet);

    // ------------------------------------------------------------------ errors: expected first, actual second

    error StakeTooLow(uint256 required, uint256 actual);
    error InsufficientBonded(uint128 required, uint128 actual);
    /// @dev The rest would no longer back the registered GPUs: register fewer first.
    error StakeBacksGpus(uint256 required, uint256 remaining);
    error UnknownRequest(address provider, uint256 requestId);
    error UnbondingNotOver(uint64 withdrawableAt, uint256 actual);
    error KeyAlreadyBound(address key, address provider);
    error KeyNotBound(address key);
    error KeyAlreadyRetired(address key, uint64 retiredAt);
    /// @dev The caller itself, or a provider with bonded stake.
    error KeyIsProvider(address key);
    error OnlyProvider(address expected, address actual);
    error InvalidKeySignature(address expected, address actual);
    error GpuSetMissing(uint32 gpus);
    error NoPool(address provider);
    error DepositNotExact(uint256 expected, uint256 actual);
    error InvalidRecipient(address recipient);
    error ZeroAmount();
    error ZeroAddress();

    // ------------------------------------------------------------------ standing behind one's work

    /// @notice Pull `amount` of the staking token from the caller and bond it as the caller's own stake.
    function stake(uint128 amount) external;

    /// @notice The same with an EIP-2612 permit; one that somebody used up first is no failure if the allowance is there.
    function stakeWithPermit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external;

    /// @notice Stop bonding `amount` of the caller's stake. What remains must still back its registered GPUs.
    /// @return requestId Counts from 0 for each provider.
    function requestUnbond(uint128 amount) external returns (uint256 requestId);

    /// @notice Pay an unbonding request of the caller out to `to`, once its own clock has run.
    /// @return amount What was paid.
    function withdrawStake(uint256 requestId, address to) external returns (uint128 amount);

    // ------------------------------------------------------------------ offering GPUs

    /// @notice State how many GPUs the provider offers and the Merkle root of their ids. Replaces the earlier statement;
    /// (0, 0) withdraws it. Needs own bonded stake of `unit` per GPU.
    /// @dev Called by the provider or by one of its operator keys. Warning: an address that is an operator key always
    /// acts for its provider here, never for itself.
    function registerGpus(bytes32 gpuSet, uint32 gpus) external;

    // ------------------------------------------------------------------ lending the pen

    /// @notice Bind `key` to the caller for ever. `signature` is the key's own over `OperatorKey(provider, key)`. Refused
    /// while the key has stake bonded of its own.
    function bindOperatorKey(address key, bytes calldata signature) external;

    /// @notice Provider only: the key proves nothing new from now on. There is no way back.
    function retireOperatorKey(address key) external;

    // ------------------------------------------------------------------ sharing in the fees

    /// @notice Escrow only: `amount` of the payment token was transferred here for the pool of `provider`.
    function addFees(address provider, uint128 amount) external;

    // ------------------------------------------------------------------ reading

    /// @notice Whether fees of `provider` have somebody here to go to.
    function hasPool(address provider) external view returns (bool);

    /// @notice The provider's own stake: `bonded` backs its GPUs, `unbonding` is on its way out.
    function stakeOf(address provider) external view returns (uint128 bonded, uint128 unbonding);

    /// @notice How many GPUs the provider registered.
    function gpusOf(address provider) external view returns (uint32);

    /// @notice How many GPUs the provider's own bonded stake covers.
    function unitsOf(address provider) external view returns (uint256);

    /// @notice One unbonding request; amount zero once withdrawn, or if there never was one.
    function unbondRequest(address provider, uint256 requestId)
        external
        view
        returns (uint128 amount, uint64 withdrawableAt);

    /// @notice How many unbonding requests the provider ever made.
    function unbondRequestsOf(address provider) external view returns (uint256);

    /// @notice Whom `key` was bound to, and when it was retired; zeros if never.
    function operatorKey(address key) external view returns (address provider, uint64 retiredAt);

    /// @notice Whether a signature of `signer` proves work of `provider` today: its own, or a key not retired.
    function signsFor(address signer, address provider) external view returns (bool);

    /// @notice Whether `provider` must answer for what `signer` signed: also for 7 days after the key was retired.
    function answersFor(address provider, address signer) external view returns (bool);

    /// @notice What an operator key signs to be bound.
    function digestOfOperatorKey(address provider, address key) external view returns (bytes32);

    function token() external view returns (address);

    /// @notice Own stake per GPU, in the staking token's smallest unit.
    function unit() external view returns (uint128);

    function unbondingSeconds() external view returns (uint32);

    function retiredKeySeconds() external view returns (uint32);
}
