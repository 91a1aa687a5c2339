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

    struct Account {
        uint128 available;
        uint128 locked;
    }

    struct Payee {
        uint128 credit;
        uint128 fees;
    }

    IERC20 private immutable _token;

    /// @inheritdoc IComputeEscrow
    address public immutable market;

    /// @inheritdoc IComputeEscrow
    address public immutable treasury;

    /// @inheritdoc IComputeEscrow
    uint16 public immutable protocolFeeBps;

    mapping(address account => Account) private _accounts;
    mapping(address payee => Payee) private _payees;
    mapping(address payee => address) private _payoutAddresses;

    /// @param market_ Computed before its deployment; the market's constructor checks that it is this one.
    constructor(address token_, address market_, address treasury_, uint16 protocolFeeBps_)
        TallystickDomain(address(this))
    {
        if (token_ == address(0) || market_ == address(0) || treasury_ == address(0)) revert ZeroAddress();
        if (protocolFeeBps_ > PROTOCOL_FEE_LIMIT_BPS) {
            revert ProtocolFeeTooHigh(PROTOCOL_FEE_LIMIT_BPS, protocolFeeBps_);
        }
        _token = IERC20(token_);
        market = market_;
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
        IERC3009(address(_token)).receiveWithAuthorization(
            from, address(this), amount, validAfter, validBefore, authorizationNonce(to, salt), v, r, s
        );
        _addAvailable(to, from, amount, _token.receivedSince(before));
    }

    /// @inheritdoc IComputeEscrow
    function withdraw(uint128 amount, address to) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        _checkRecipient(to);
        Account storage account = _accounts[msg.sender];
        uint128 available = account.available;
        if (available < amount) revert InsufficientAvailable(amount, available);
        // Just compared.
        unchecked {
            account.available = available - amount;
        }
        emit Withdrawn(msg.sender, to, amount);
        _token.safeTransfer(to, amount);
    }

    // ------------------------------------------------------------------ a payee takes what it earned

    /// @inheritdoc IComputeEscrow
    function withdrawCredit(address payee) external nonReentrant returns (uint128 paid) {
        Payee storage account = _payees[payee];
        uint128 credit = account.credit;
        if (credit == 0) revert NoCredit(payee);
        uint128 fee = CallPricing.shareDown(credit, protocolFeeBps);
        account.credit = 0;
        account.fees += fee;
        // The fee is at most 5 % of the credit.
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
        toTreasury = _payees[payee].fees;
        if (toTreasury == 0) revert NoFees(payee);
        _payees[payee].fees = 0;
        emit FeesShared(payee, toTreasury);
        _token.safeTransfer(treasury, toTreasury);
    }

    // ------------------------------------------------------------------ the market's orders

    /// @inheritdoc IComputeEscrow
    function lock(address account, uint128 amount) external onlyMarket {
        Account storage money = _accounts[account];
        uint128 available = money.available;
        if (available < amount) revert InsufficientAvailable(amount, available);
        // Just compared; the sum is a part of the token's balance, which deposits keep within uint128.
        unchecked {
            money.available = available - amount;
        }
        money.locked += amount;
    }

    /// @inheritdoc IComputeEscrow
    function unlock(address account, uint128 amount) external onlyMarket {
        Account storage money = _accounts[account];
        money.locked = _lockedLess(money.locked, amount);
        money.available += amount;
    }

    /// @inheritdoc IComputeEscrow
    function settle(Settlement calldata settlement) external onlyMarket {
        uint128 charge = settlement.charge;
        Account storage money = _accounts[settlement.account];
        uint128 available = money.available + settlement.unlocked;
        if (available < charge) revert InsufficientAvailable(charge, available);
        uint128 locked = _lockedLess(money.locked, settlement.unlocked);
        money.locked = locked;
        // Just compared.
        unchecked {
            money.available = available - charge;
        }

        uint128 dispatcherShare = settlement.dispatcherShare;
        uint128 royaltyShare = settlement.royaltyShare;
        // Checked: shares above the charge revert.
        _payees[settlement.provider].credit += charge - dispatcherShare - royaltyShare;
        if (dispatcherShare != 0) _payees[settlement.dispatcher].credit += dispatcherShare;
        if (royaltyShare != 0) _payees[settlement.royaltyTo].credit += royaltyShare;
    }

    // ------------------------------------------------------------------ reading

    /// @inheritdoc IComputeEscrow
    function accountOf(address account) external view returns (uint128 available, uint128 locked) {
        Account storage money = _accounts[account];
        return (money.available, money.locked);
    }

    /// @inheritdoc IComputeEscrow
    function payeeOf(address payee) external view returns (uint128 credit, uint128 fees) {
        Payee storage account = _payees[payee];
        return (account.credit, account.fees);
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
        // Checked: a token with more than 2^128 units cannot wrap an account.
        _accounts[to].available += amount;
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

    function _lockedLess(uint128 locked, uint128 amount) private pure returns (uint128) {
        if (locked < amount) revert InsufficientLocked(amount, locked);
        // Just compared.
        unchecked {
            return locked - amount;
        }
    }
}
