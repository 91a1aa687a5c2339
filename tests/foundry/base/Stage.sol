// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {IAppRegistry} from "../../../contracts/interfaces/IAppRegistry.sol";
import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {ContractWallet} from "../../../contracts/mocks/Wallets.sol";
import {Check} from "./Check.sol";
import {HostileToken, IWitness} from "./HostileToken.sol";
import {vm} from "./Vm.sol";

/// @notice The whole set of contracts as `scripts/deploy.py` deploys it, and people whose keys are known.
/// @dev The contracts come from their artifacts, not by import: a change of one compiles that one alone.
abstract contract Stage is Check, IWitness {
    uint128 internal constant TALLY = 1e18;
    uint128 internal constant UNIT = 1000e18;
    uint256 internal constant START = 1_800_000_000;
    uint16 internal constant PROTOCOL_FEE_BPS = 100;
    uint32 internal constant UNBONDING_S = 21 days;
    uint32 internal constant RETIRED_KEY_S = 7 days;
    uint32 internal constant CANCEL_S = 1 hours;
    uint32 internal constant MIN_CHALLENGE_S = 1 days;
    uint32 internal constant MAX_CHALLENGE_S = 7 days;
    uint32 internal constant COURT_S = 6 days;
    uint16 internal constant POOL_SHARE_BPS = 5000;
    uint32 internal constant CLOSE_S = 3 days;
    uint32 internal constant JAIL_S = 7 days;
    uint32 internal constant STREAM_S = 7 days;
    uint32 internal constant COMMISSION_NOTICE_S = 7 days;
    uint32 internal constant DAY_S = 1 days;
    uint128 internal constant BOND_FLOOR = 3 * TALLY;
    address internal constant BURN = 0x000000000000000000000000000000000000dEaD;

    /// @dev Windows of the market, as its constructor takes them.
    struct Windows {
        uint32 cancelSeconds;
        uint32 minChallengeSeconds;
        uint32 maxChallengeSeconds;
        uint32 courtSeconds;
    }

    struct CourtWindows {
        uint32 commitSeconds;
        uint32 revealSeconds;
        uint32 seatSeconds;
    }

    HostileToken public payment;
    HostileToken public bond;
    IComputeEscrow public escrow;
    IProviderStaking public staking;
    ITaskMarket public market;
    IDisputeCourt public court;
    IAppRegistry public registry;
    address public treasury = address(0x7EA5);

    /// @dev Everybody who may hold money. The first four pay; the next three work; then those with a share; at the end a
    /// stranger and the payment token itself, which calls back into whatever calls it.
    address[] public people;
    mapping(address person => uint256) internal keyOf;
    mapping(address person => uint256) internal sessionKeyOf;

    uint256 internal constant CONSUMERS = 4;
    uint256 internal constant PROVIDERS = 3;
    uint256 internal constant PROVIDER_FROM = 4;
    uint256 internal constant SEATS = 4;
    uint256 internal constant SEAT_FROM = 11;
    address internal dispatcher;
    address internal appOwner;
    address internal stranger;

    function build() internal {
        vm.warp(START);
        vm.roll(1_000_000);
        payment = new HostileToken(this);
        bond = new HostileToken(this);
        deployNeighbours(address(payment), address(bond));
        invite();
    }

    /// @dev One place that knows constructors and their order.
    function deployNeighbours(address payment_, address bond_) internal {
        uint256 nonce = vm.getNonce(address(this));
        address stakingAhead = vm.computeCreateAddress(address(this), nonce + 1);
        address marketAhead = vm.computeCreateAddress(address(this), nonce + 2);
        address courtAhead = vm.computeCreateAddress(address(this), nonce + 3);
        escrow = IComputeEscrow(
            deploy(
                "ComputeEscrow",
                abi.encode(payment_, marketAhead, stakingAhead, treasury, PROTOCOL_FEE_BPS, POOL_SHARE_BPS, CLOSE_S)
            )
        );
        IProviderStaking.Clocks memory clocks =
            IProviderStaking.Clocks(UNBONDING_S, RETIRED_KEY_S, COMMISSION_NOTICE_S, JAIL_S, STREAM_S);
        staking = IProviderStaking(deploy("ProviderStaking", abi.encode(bond_, escrow, courtAhead, UNIT, clocks)));
        Windows memory windows = Windows(CANCEL_S, MIN_CHALLENGE_S, MAX_CHALLENGE_S, COURT_S);
        market = ITaskMarket(deploy("TaskMarket", abi.encode(escrow, staking, courtAhead, windows, BOND_FLOOR)));
        court = IDisputeCourt(
            deploy("DisputeCourt", abi.encode(market, staking, escrow, CourtWindows(DAY_S, DAY_S, DAY_S)))
        );
        registry = IAppRegistry(deploy("AppRegistry", abi.encode(DAY_S)));
        check(address(market) == marketAhead, "the market is where the escrow expects it");
    }

    function deploy(string memory name, bytes memory arguments) internal returns (address deployed) {
        bytes memory code = bytes.concat(vm.getCode(string.concat(name, ".sol:", name)), arguments);
        assembly ("memory-safe") {
            deployed := create(0, add(code, 0x20), mload(code))
            if iszero(deployed) {
                returndatacopy(mload(0x40), 0, returndatasize())
                revert(mload(0x40), returndatasize())
            }
        }
    }

    function invite() internal {
        for (uint256 i; i < 7; ++i) {
            uint256 key = 0xA11CE + i;
            address person = vm.addr(key);
            // The third signs by contract, honestly; the fourth floods whoever asks it.
            if (i == 2 || i == 3) person = address(new ContractWallet(vm.addr(key)));
            if (i == 3) ContractWallet(person).setMood(ContractWallet.Mood.AnswersHuge);
            addPerson(person, key);
        }
        dispatcher = addPerson(vm.addr(0xD15), 0xD15);
        appOwner = addPerson(vm.addr(0xA44), 0xA44);
        stranger = addPerson(vm.addr(0x57A), 0x57A);
        addPerson(address(payment), 0);
        for (uint256 i; i < SEATS; ++i) {
            addPerson(vm.addr(0x5EA7 + i), 0x5EA7 + i);
        }
        addPerson(treasury, 0);
        vm.prank(address(payment));
        payment.approve(address(escrow), type(uint256).max);
    }

    function addPerson(address person, uint256 key) internal returns (address) {
        people.push(person);
        keyOf[person] = key;
        sessionKeyOf[person] = uint256(keccak256(abi.encode("session", person))) >> 8;
        payment.mint(person, 1_000_000 * TALLY);
        bond.mint(person, 100 * UNIT);
        if (person != treasury) {
            vm.prank(person);
            payment.approve(address(escrow), type(uint256).max);
            vm.prank(person);
            bond.approve(address(staking), type(uint256).max);
        }
        return person;
    }

    /// @dev Time only goes on.
    function later(uint256 time) internal {
        if (time > block.timestamp) vm.warp(time);
    }

    function count() public view returns (uint256) {
        return people.length;
    }

    // ------------------------------------------------------------------ signatures

    function signed(uint256 key, bytes32 digest, bool compact) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        if (compact) return abi.encodePacked(r, uint256(s) | (uint256(v - 27) << 255));
        return abi.encodePacked(r, s, v);
    }

    function signedWords(uint256 key, bytes32 digest) internal pure returns (bytes32 r, bytes32 vs) {
        uint8 v;
        bytes32 s;
        (v, r, s) = vm.sign(key, digest);
        vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
    }
}
