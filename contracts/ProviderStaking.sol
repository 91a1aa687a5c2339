// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IProviderStaking} from "./interfaces/IProviderStaking.sol";
import {ExactTransfer} from "./libraries/ExactTransfer.sol";
import {MessageHash} from "./libraries/MessageHash.sol";
import {Signatures} from "./libraries/Signatures.sol";
import {TallystickDomain} from "./libraries/TallystickDomain.sol";

/// @title Staking: who may serve, and what they stand to lose
/// @dev Invariant: balance of the staking token >= all bonded + unbonding. Slashing, jail, seats and delegation come with
/// the court; a slash will take `bonded` before what is `unbonding`, which is why both are kept by provider.
contract ProviderStaking is IProviderStaking, TallystickDomain, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using ExactTransfer for IERC20;

    /// @dev One slot: what registering GPUs reads and writes. 64 bits are free.
    struct Stake {
        uint128 bonded;
        uint32 gpus;
        uint32 requests;
    }

    struct UnbondRequest {
        uint128 amount;
        uint64 withdrawableAt;
    }

    struct OperatorKey {
        address provider;
        uint64 retiredAt;
    }

    IERC20 private immutable _token;

    /// @inheritdoc IProviderStaking
    uint128 public immutable unit;

    /// @inheritdoc IProviderStaking
    uint32 public immutable unbondingSeconds;

    /// @inheritdoc IProviderStaking
    uint32 public immutable retiredKeySeconds;

    mapping(address provider => Stake) private _stakes;
    mapping(address provider => uint128) private _unbonding;
    mapping(address provider => mapping(uint256 requestId => UnbondRequest)) private _unbondRequests;
    mapping(address key => OperatorKey) private _operatorKeys;

    /// @param escrow_ Only for the signing domain that a deployment shares.
    constructor(address token_, address escrow_, uint128 unit_, uint32 unbondingSeconds_, uint32 retiredKeySeconds_)
        TallystickDomain(escrow_)
    {
        if (token_ == address(0) || escrow_ == address(0)) revert ZeroAddress();
        if (unit_ == 0) revert ZeroAmount();
        _token = IERC20(token_);
        unit = unit_;
        unbondingSeconds = unbondingSeconds_;
        retiredKeySeconds = retiredKeySeconds_;
    }

    // ------------------------------------------------------------------ a provider stands behind its work

    /// @inheritdoc IProviderStaking
    function stake(uint128 amount) external nonReentrant {
        _stake(amount);
    }

    /// @inheritdoc IProviderStaking
    function stakeWithPermit(uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s) external nonReentrant {
        _token.tryPermit(msg.sender, amount, deadline, v, r, s);
        _stake(amount);
    }

    /// @inheritdoc IProviderStaking
    function requestUnbond(uint128 amount) external returns (uint256 requestId) {
        if (amount == 0) revert ZeroAmount();
        Stake storage own = _stakes[msg.sender];
        uint128 bonded = own.bonded;
        if (bonded < amount) revert InsufficientBonded(amount, bonded);
        // Just compared.
        unchecked {
            bonded -= amount;
        }
        _requireBacked(own.gpus, bonded, true);

        // Checked: 2^32 requests revert.
        requestId = own.requests++;
        own.bonded = bonded;
        _unbonding[msg.sender] += amount;
        // Safe cast: a block's time plus 32 bits of seconds.
        uint64 withdrawableAt = uint64(block.timestamp + unbondingSeconds);
        _unbondRequests[msg.sender][requestId] = UnbondRequest(amount, withdrawableAt);
        emit UnbondRequested(msg.sender, requestId, amount, withdrawableAt, bonded);
    }

    /// @inheritdoc IProviderStaking
    function withdrawStake(uint256 requestId, address to) external nonReentrant returns (uint128 amount) {
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
        UnbondRequest memory request = _unbondRequests[msg.sender][requestId];
        amount = request.amount;
        if (amount == 0) revert UnknownRequest(msg.sender, requestId);
        if (block.timestamp < request.withdrawableAt) {
            revert UnbondingNotOver(request.withdrawableAt, block.timestamp);
        }
        delete _unbondRequests[msg.sender][requestId];
        _unbonding[msg.sender] -= amount;
        emit StakeWithdrawn(msg.sender, requestId, to, amount);
        _token.safeTransfer(to, amount);
    }

    // ------------------------------------------------------------------ a provider offers GPUs

    /// @inheritdoc IProviderStaking
    function registerGpus(bytes32 gpuSet, uint32 gpus) external {
        OperatorKey memory key = _operatorKeys[msg.sender];
        if (key.retiredAt != 0) revert KeyAlreadyRetired(msg.sender, key.retiredAt);
        address provider = key.provider == address(0) ? msg.sender : key.provider;
        if (gpus != 0 && gpuSet == 0) revert GpuSetMissing(gpus);

        Stake storage own = _stakes[provider];
        _requireBacked(gpus, own.bonded, false);
        own.gpus = gpus;
        emit GpusRegistered(provider, gpus, gpuSet);
    }

    // ------------------------------------------------------------------ a provider lends its pen

    /// @inheritdoc IProviderStaking
    function bindOperatorKey(address key, bytes calldata signature) external {
        // A provider that became a key could not register its own GPUs any more, nor take them back to unbond.
        if (key == msg.sender || _stakes[key].bonded != 0) revert KeyIsProvider(key);
        address present = _operatorKeys[key].provider;
        if (present != address(0)) revert KeyAlreadyBound(key, present);
        address signer = Signatures.recover(digestOfOperatorKey(msg.sender, key), signature);
        if (signer == address(0) || signer != key) revert InvalidKeySignature(key, signer);
        _operatorKeys[key].provider = msg.sender;
        emit OperatorKeyBound(msg.sender, key);
    }

    /// @inheritdoc IProviderStaking
    function retireOperatorKey(address key) external {
        OperatorKey storage bound = _operatorKeys[key];
        if (bound.provider == address(0)) revert KeyNotBound(key);
        if (bound.provider != msg.sender) revert OnlyProvider(bound.provider, msg.sender);
        if (bound.retiredAt != 0) revert KeyAlreadyRetired(key, bound.retiredAt);
        // Safe cast: a block's time.
        uint64 retiredAt = uint64(block.timestamp);
        bound.retiredAt = retiredAt;
        emit OperatorKeyRetired(msg.sender, key, retiredAt + retiredKeySeconds);
    }

    // ------------------------------------------------------------------ fees come in

    /// @inheritdoc IProviderStaking
    /// @dev Nobody can delegate yet, so there is no pool that could take them.
    function addFees(address provider, uint128) external pure {
        revert NoPool(provider);
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc IProviderStaking
    function hasPool(address) external pure returns (bool) {
        return false;
    }

    /// @inheritdoc IProviderStaking
    function stakeOf(address provider) external view returns (uint128 bonded, uint128 unbonding) {
        return (_stakes[provider].bonded, _unbonding[provider]);
    }

    /// @inheritdoc IProviderStaking
    function gpusOf(address provider) external view returns (uint32) {
        return _stakes[provider].gpus;
    }

    /// @inheritdoc IProviderStaking
    function unitsOf(address provider) external view returns (uint256) {
        return _stakes[provider].bonded / unit;
    }

    /// @inheritdoc IProviderStaking
    function unbondRequest(address provider, uint256 requestId)
        external
        view
        returns (uint128 amount, uint64 withdrawableAt)
    {
        UnbondRequest storage request = _unbondRequests[provider][requestId];
        return (request.amount, request.withdrawableAt);
    }

    /// @inheritdoc IProviderStaking
    function unbondRequestsOf(address provider) external view returns (uint256) {
        return _stakes[provider].requests;
    }

    /// @inheritdoc IProviderStaking
    function operatorKey(address key) external view returns (address provider, uint64 retiredAt) {
        OperatorKey storage bound = _operatorKeys[key];
        return (bound.provider, bound.retiredAt);
    }

    /// @inheritdoc IProviderStaking
    function signsFor(address signer, address provider) external view returns (bool) {
        // A key that was never bound names the zero address as its provider.
        if (signer == address(0) || provider == address(0)) return false;
        if (signer == provider) return true;
        OperatorKey storage bound = _operatorKeys[signer];
        return bound.provider == provider && bound.retiredAt == 0;
    }

    /// @inheritdoc IProviderStaking
    function answersFor(address provider, address signer) external view returns (bool) {
        if (signer == address(0) || provider == address(0)) return false;
        if (signer == provider) return true;
        OperatorKey storage bound = _operatorKeys[signer];
        if (bound.provider != provider) return false;
        return bound.retiredAt == 0 || block.timestamp <= bound.retiredAt + retiredKeySeconds;
    }

    /// @inheritdoc IProviderStaking
    function digestOfOperatorKey(address provider, address key) public view returns (bytes32) {
        return _digest(MessageHash.hashOperatorKey(provider, key));
    }

    /// @inheritdoc IProviderStaking
    function token() external view returns (address) {
        return address(_token);
    }

    // ------------------------------------------------------------------ private

    function _stake(uint128 amount) private {
        if (amount == 0) revert ZeroAmount();
        uint256 received = _token.pull(msg.sender, amount);
        if (received != amount) revert DepositNotExact(amount, received);
        // Checked: a token with more than 2^128 units cannot wrap a stake.
        uint128 bonded = _stakes[msg.sender].bonded + amount;
        _stakes[msg.sender].bonded = bonded;
        emit Staked(msg.sender, amount, bonded);
    }

    function _requireBacked(uint32 gpus, uint128 bonded, bool unbonding) private view {
        // 160 bits at most.
        uint256 required = uint256(gpus) * unit;
        if (bonded >= required) return;
        if (unbonding) revert StakeBacksGpus(required, bonded);
        revert StakeTooLow(required, bonded);
    }
}
