// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC3009} from "@openzeppelin/contracts/interfaces/draft-IERC3009.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {IComputeEscrow} from "./interfaces/IComputeEscrow.sol";
import {CallPricing} from "./libraries/CallPricing.sol";
import {ExactTransfer} from "./libraries/ExactTransfer.sol";
import {TallystickDomain} from "./libraries/TallystickDomain.sol";

/// @title The escrow: whose money waits for what
/// @dev Invariant: balance of the token >= all available + locked + credit + fees; equal if nobody sent tokens here
/// without a deposit.
contract ComputeEscrow is IComputeEscrow, TallystickDomain, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using ExactTransfer for IERC20;

    uint256 private constant PROTOCOL_FEE_LIMIT_BPS = 500;

    IERC20 private immutable _token;

    /// @inheritdoc IComputeEscrow
    address public immutable market;

    /// @inheritdoc IComputeEscrow
    address public immutable staking;

    /// @inheritdoc IComputeEscrow
    address public immutable treasury;

    /// @inheritdoc IComputeEscrow
    uint16 public immutable protocolFeeBps;

    /// @dev One word each, read once and written once: available in the low half, locked in the high half.
    mapping(address account => uint256) private _accounts;

    /// @dev Credit in the low half, fees in the high half.
    mapping(address payee => uint256) private _payees;

    mapping(address payee => address) private _payoutAddresses;

    /// @param market_ Computed before its deployment; the market's constructor checks that it is this one.
    constructor(address token_, address market_, address staking_, address treasury_, uint16 protocolFeeBps_)
        TallystickDomain(address(this))
    {
        if (token_ == address(0) || market_ == address(0) || treasury_ == address(0)) revert ZeroAddress();
        if (protocolFeeBps_ > PROTOCOL_FEE_LIMIT_BPS) {
            revert ProtocolFeeTooHigh(PROTOCOL_FEE_LIMIT_BPS, protocolFeeBps_);
        }
        _token = IERC20(token_);
        market = market_;
        staking = staking_;
        treasury = treasury_;
        protocolFeeBps = protocolFeeBps_;
    }

    modifier onlyMarket() {
        if (msg.sender != market) revert OnlyMarket(market, msg.sender);
        _;
    }

    // ------------------------------------------------------------------ a consumer pays in and takes out

    /// @inheritdoc IComputeEscrow
    function deposit(address to, uint128 amount) external nonReentrant {
        _deposit(to, amount);
    }

    /// @inheritdoc IComputeEscrow
    function depositWithPermit(address to, uint128 amount, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
        nonReentrant
    {
        _token.tryPermit(msg.sender, amount, deadline, v, r, s);
        _deposit(to, amount);
    }

    /// @inheritdoc IComputeEscrow
    function depositWithAuthorization(
        address from,
        address to,
        uint128 amount,
        uint256 validAfter,
        uint256 validBefore,
        bytes32 salt,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external nonReentrant {
        _checkDeposit(to, amount);
        uint256 before = _token.balanceOf(address(this));
        IERC3009(address(_token))
            .receiveWithAuthorization(
                from, address(this), amount, validAfter, validBefore, authorizationNonce(to, salt), v, r, s
            );
        _addAvailable(to, from, amount, _token.receivedSince(before));
    }

    /// @inheritdoc IComputeEscrow
    function withdraw(uint128 amount, address to) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        _checkRecipient(to);
        (uint128 available, uint128 locked) = _halves(_accounts[msg.sender]);
        _accounts[msg.sender] = _word(_availableLess(available, amount), locked);
        emit Withdrawn(msg.sender, to, amount);
        _token.safeTransfer(to, amount);
    }

    // ------------------------------------------------------------------ a payee takes what it earned

    /// @inheritdoc IComputeEscrow
    function withdrawCredit(address payee) external nonReentrant returns (uint128 paid) {
        (uint128 credit, uint128 fees) = _halves(_payees[payee]);
        if (credit == 0) revert NoCredit(payee);
        // Safe cast: at most 5 % of the credit.
        uint128 fee = uint128(CallPricing.shareDown(credit, protocolFeeBps));
        _payees[payee] = _word(0, fees + fee);
        // Just said.
        unchecked {
            paid = credit - fee;
        }
        address payout = payoutAddressOf(payee);
        emit CreditWithdrawn(payee, payout, paid, fee);
        _token.safeTransfer(payout, paid);
    }

    /// @inheritdoc IComputeEscrow
    function setPayoutAddress(address payee, address payout) external {
        address present = payoutAddressOf(payee);
        if (msg.sender != present) revert OnlyPayoutAddress(present, msg.sender);
        _checkRecipient(payout);
        _payoutAddresses[payee] = payout;
        emit PayoutAddressSet(payee, payout);
    }

    /// @inheritdoc IComputeEscrow
    function shareFees(address payee) external nonReentrant returns (uint128 toTreasury) {
        uint128 credit;
        (credit, toTreasury) = _halves(_payees[payee]);
        if (toTreasury == 0) revert NoFees(payee);
        _payees[payee] = _word(credit, 0);
        emit FeesShared(payee, toTreasury);
        _token.safeTransfer(treasury, toTreasury);
    }

    // ------------------------------------------------------------------ the market's orders

    /// @inheritdoc IComputeEscrow
    function lockAvailable(address account, uint128 amount) external onlyMarket {
        (uint128 available, uint128 locked) = _halves(_accounts[account]);
        _accounts[account] = _word(_availableLess(available, amount), locked + amount);
    }

    /// @inheritdoc IComputeEscrow
    function unlock(address account, uint128 amount) external onlyMarket {
        (uint128 available, uint128 locked) = _halves(_accounts[account]);
        _accounts[account] = _word(available + amount, _lockedLess(locked, amount));
    }

    /// @inheritdoc IComputeEscrow
    function pay(
        address account,
        uint256 unlocked,
        uint256 charge,
        address provider,
        address dispatcher,
        uint256 dispatcherShare,
        address royaltyTo,
        uint256 royaltyShare
    ) external onlyMarket {
        if ((unlocked | charge | dispatcherShare | royaltyShare) > type(uint128).max) {
            revert AmountTooLarge();
        }
        uint256 word = _accounts[account];
        // Sums of numbers of 128 bits.
        unchecked {
            uint256 available = uint128(word) + unlocked;
            if (available < charge) revert InsufficientAvailable(uint128(charge), uint128(available));
            available -= charge;
            if (available > type(uint128).max) revert AmountTooLarge();
            if (word >> 128 < unlocked) revert InsufficientLocked(uint128(unlocked), uint128(word >> 128));
            _accounts[account] = (((word >> 128) - unlocked) << 128) | available;

            uint256 shares = dispatcherShare + royaltyShare;
            if (shares > charge) revert SharesAboveCharge(charge, shares);
            _addCredit(provider, charge - shares);
        }
        if (dispatcherShare != 0) _addCredit(dispatcher, dispatcherShare);
        if (royaltyShare != 0) _addCredit(royaltyTo, royaltyShare);
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc IComputeEscrow
    function accountOf(address account) external view returns (uint128 available, uint128 locked) {
        return _halves(_accounts[account]);
    }

    /// @inheritdoc IComputeEscrow
    function payeeOf(address payee) external view returns (uint128 credit, uint128 fees) {
        return _halves(_payees[payee]);
    }

    /// @inheritdoc IComputeEscrow
    function payoutAddressOf(address payee) public view returns (address) {
        address payout = _payoutAddresses[payee];
        return payout == address(0) ? payee : payout;
    }

    /// @inheritdoc IComputeEscrow
    function authorizationNonce(address to, bytes32 salt) public pure returns (bytes32) {
        return keccak256(abi.encode(to, salt));
    }

    /// @inheritdoc IComputeEscrow
    function token() external view returns (address) {
        return address(_token);
    }

    // ------------------------------------------------------------------ private

    function _deposit(address to, uint128 amount) private {
        _checkDeposit(to, amount);
        _addAvailable(to, msg.sender, amount, _token.pull(msg.sender, amount));
    }

    function _addAvailable(address to, address payer, uint128 amount, uint256 received) private {
        if (received != amount) revert DepositNotExact(amount, received);
        (uint128 available, uint128 locked) = _halves(_accounts[to]);
        // Checked: a token with more than 2^128 units cannot wrap an account.
        _accounts[to] = _word(available + amount, locked);
        emit Deposited(to, payer, amount);
    }

    function _checkDeposit(address to, uint128 amount) private view {
        if (amount == 0) revert ZeroAmount();
        _checkRecipient(to);
    }

    /// @dev Money of the zero address or of the escrow itself could never leave.
    function _checkRecipient(address to) private view {
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
    }

    function _addCredit(address payee, uint256 amount) private {
        uint256 word = _payees[payee];
        // The low half must not run over into the fees; amounts are of 128 bits.
        unchecked {
            if (uint128(word) + amount > type(uint128).max) revert AmountTooLarge();
            _payees[payee] = word + amount;
        }
    }

    function _availableLess(uint128 available, uint128 amount) private pure returns (uint128) {
        if (available < amount) revert InsufficientAvailable(amount, available);
        // Just compared.
        unchecked {
            return available - amount;
        }
    }

    function _lockedLess(uint128 locked, uint128 amount) private pure returns (uint128) {
        if (locked < amount) revert InsufficientLocked(amount, locked);
        // Just compared.
        unchecked {
            return locked - amount;
        }
    }

    function _halves(uint256 word) private pure returns (uint128 low, uint128 high) {
        // Safe casts: each keeps exactly its own half.
        return (uint128(word), uint128(word >> 128));
    }

    function _word(uint128 low, uint128 high) private pure returns (uint256) {
        return uint256(low) | (uint256(high) << 128);
    }
}
