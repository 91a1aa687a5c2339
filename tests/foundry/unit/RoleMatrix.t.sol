// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAppRegistry} from "../../../contracts/interfaces/IAppRegistry.sol";
import {IComputeEscrow} from "../../../contracts/interfaces/IComputeEscrow.sol";
import {IDisputeCourt} from "../../../contracts/interfaces/IDisputeCourt.sol";
import {IProviderStaking} from "../../../contracts/interfaces/IProviderStaking.sol";
import {ITaskMarket} from "../../../contracts/interfaces/ITaskMarket.sol";
import {Check} from "../base/Check.sol";
import {Stage} from "../base/Stage.sol";
import {vm} from "../base/Vm.sol";

/// @notice What the compiler says that functions do to the state.
contract Mutability is Check {
    /// @dev A constructor counts as writing.
    function check_(string calldata artifact, string calldata name, uint256 reading, uint256 writing) external pure {
        string memory abi_ = vm.split(artifact, '"bytecode":')[0];
        uint256 reads = _count(abi_, "view") + _count(abi_, "pure");
        checkEqual(reads, reading, string.concat(name, ": as many that read as the compiler says"));
        checkEqual(_count(abi_, "nonpayable"), writing + 1, string.concat(name, ": as many that write"));
        checkEqual(0, _count(abi_, "payable"), string.concat(name, ": none that takes coin"));
    }

    function _count(string memory text, string memory kind) private pure returns (uint256) {
        return vm.split(text, string.concat('"stateMutability":"', kind, '"')).length - 1;
    }
}

/// @notice Every function of every contract, called in every role (cases 14 and 21). The table says who may; the functions,
/// and whether they change anything, come from the compiled interfaces: one that the table does not know fails, and so
/// does one that takes coin.
contract RoleMatrix is Stage {
    /// @param data A call that names the consumer's, the provider's and the publisher's own things.
    /// @param gate The error that whoever may not is answered with; zero: anyone, each for itself.
    /// @param may Bits of the roles that may.
    struct Row {
        bytes data;
        bytes4 gate;
        uint256 may;
    }

    uint256 private constant CONSUMER = 1 << 0;
    uint256 private constant PROVIDER = 1 << 1;
    uint256 private constant OPERATOR = 1 << 2;
    uint256 private constant SIGNER = 1 << 3;
    uint256 private constant PUBLISHER = 1 << 5;
    uint256 private constant MARKET = 1 << 6;
    uint256 private constant COURT = 1 << 7;
    uint256 private constant ESCROW = 1 << 8;
    uint256 private constant ROLES = 12;

    uint256 private constant OPERATOR_KEY = 0x0BE;

    mapping(address target => mapping(bytes4 selector => Row)) private _rows;
    mapping(address target => mapping(bytes4 selector => bool)) private _views;
    address[] private _roles;
    address private _consumer;
    address private _provider;
    bytes32 private _appId;
    Mutability private _mutability = new Mutability();
    uint256 private _functions;
    bytes32 private _told;
    uint256 private _pairs;

    function booksAreCovered() external pure returns (bool) {
        return true;
    }

    function setUp() public {
        build();
        _consumer = people[0];
        _provider = people[PROVIDER_FROM];
        address signer = vm.addr(sessionKeyOf[_consumer]);
        address operator = vm.addr(OPERATOR_KEY);
        bytes memory consent = signed(OPERATOR_KEY, staking.digestOfOperatorKey(_provider, operator), false);
        vm.prank(_provider);
        staking.bindOperatorKey(operator, consent);
        vm.prank(appOwner);
        _appId = registry.publish(0, bytes32("i"), bytes32("m"), "uri", IAppRegistry.Price(1, 1, 1), address(0), 0);
        _roles = [
            _consumer,
            _provider,
            operator,
            signer,
            dispatcher,
            appOwner,
            address(market),
            address(court),
            address(escrow),
            address(staking),
            treasury,
            stranger
        ];
        _escrowRows();
        _stakingRows();
        _marketRows();
        _courtRows();
        _registryRows();
    }

    function test_every_function_in_every_role() external {
        _matrix(address(escrow), "ComputeEscrow");
        _matrix(address(staking), "ProviderStaking");
        _matrix(address(market), "TaskMarket");
        _matrix(address(court), "DisputeCourt");
        _matrix(address(registry), "AppRegistry");
        checkEqual(_functions * ROLES, _pairs, "all pairs were tried");
        check(_functions > 170, "of all functions");
    }

    function _matrix(address target, string memory name) private {
        string memory artifact = vm.readFile(string.concat("build/foundry/out/", name, ".sol/", name, ".json"));
        string[] memory signatures = vm.parseJsonKeys(artifact, ".methodIdentifiers");
        uint256 reading;
        for (uint256 i; i < signatures.length; ++i) {
            bytes4 selector = bytes4(keccak256(bytes(signatures[i])));
            Row storage row = _rows[target][selector];
            bool reads = _views[target][selector];
            check(
                reads != (row.data.length != 0), string.concat(name, " has a function without one row: ", signatures[i])
            );
            if (reads) ++reading;
            for (uint256 role; role < ROLES; ++role) {
                if (reads) _read(target, selector, role, signatures[i]);
                else _pair(target, row, role, signatures[i]);
            }
        }
        _functions += signatures.length;
        _mutability.check_(artifact, name, reading, signatures.length - reading);
    }

    /// @dev The same answer for everybody.
    function _read(address target, bytes4 selector, uint256 role, string memory name) private {
        bytes memory data = abi.encodePacked(selector, new bytes(2048));
        vm.prank(_roles[role]);
        // solhint-disable-next-line avoid-low-level-calls
        (bool done, bytes memory answer) = target.staticcall(data);
        bytes32 told = keccak256(abi.encode(done, answer));
        if (role == 0) _told = told;
        checkEqual(_told, told, string.concat(name, ": another answer for another caller"));
        ++_pairs;
    }

    /// @dev Who may can still fail, for another reason; who may not fails for this one.
    function _pair(address target, Row storage row, uint256 role, string memory name) private {
        uint256 before = vm.snapshotState();
        vm.prank(_roles[role]);
        // solhint-disable-next-line avoid-low-level-calls
        (bool done, bytes memory answer) = target.call(row.data);
        bool barred = !done && bytes4(answer) == row.gate && row.gate != 0;
        bool may = row.gate == 0 || row.may & (1 << role) != 0;
        if (barred == may) {
            revert NotTrue(string.concat(name, may ? ": may, and was barred" : ": may not, and was not barred"));
        }
        if (row.gate == 0 && !done) check(!_isGate(bytes4(answer)), string.concat(name, ": for anyone, and barred"));
        vm.revertToState(before);
        ++_pairs;
    }

    function _isGate(bytes4 selector) private pure returns (bool) {
        return selector == IComputeEscrow.OnlyMarket.selector || selector == IProviderStaking.OnlyCourt.selector
            || selector == IProviderStaking.OnlyEscrow.selector || selector == IAppRegistry.OnlyPublisher.selector
            || selector == IComputeEscrow.OnlyPayer.selector || selector == IComputeEscrow.OnlySigner.selector
            || selector == IComputeEscrow.OnlyProvider.selector || selector == IProviderStaking.OnlyProvider.selector
            || selector == IComputeEscrow.OnlyPayoutAddress.selector || selector == ITaskMarket.OnlyConsumer.selector
            || selector == ITaskMarket.OnlyCourt.selector || selector == IDisputeCourt.OnlyChecker.selector
            || selector == IDisputeCourt.OnlyMarket.selector;
    }

    // ------------------------------------------------------------------ who may

    function _escrowRows() private {
        address t = address(escrow);
        IComputeEscrow.Channel memory channel =
            IComputeEscrow.Channel(_consumer, vm.addr(sessionKeyOf[_consumer]), _provider, 1);
        IComputeEscrow.ChannelAllowance memory allowance =
            IComputeEscrow.ChannelAllowance(_consumer, vm.addr(sessionKeyOf[_consumer]), 5, type(uint64).max, 0, 0);
        IComputeEscrow.Row[] memory rows = new IComputeEscrow.Row[](0);
        _anyone(t, abi.encodeCall(IComputeEscrow.deposit, (_consumer, 1)));
        _anyone(t, abi.encodeCall(IComputeEscrow.depositWithPermit, (_consumer, 1, 0, 0, 0, 0)));
        _anyone(t, abi.encodeCall(IComputeEscrow.depositWithAuthorization, (_consumer, _consumer, 1, 0, 0, 0, 0, 0, 0)));
        _anyone(t, abi.encodeCall(IComputeEscrow.depositToChannel, (channel, 1)));
        _anyone(t, abi.encodeCall(IComputeEscrow.depositToChannelWithPermit, (channel, 1, 0, 0, 0, 0)));
        _anyone(
            t,
            abi.encodeCall(IComputeEscrow.depositToChannelWithAuthorization, (_consumer, channel, 1, 0, 0, 0, 0, 0, 0))
        );
        _anyone(t, abi.encodeCall(IComputeEscrow.withdraw, (1, _consumer)));
        _anyone(t, abi.encodeCall(IComputeEscrow.revokeAllowance, (bytes32(uint256(1)))));
        _anyone(t, abi.encodeCall(IComputeEscrow.close, (channel)));
        _anyone(t, abi.encodeCall(IComputeEscrow.redeem, (_provider, rows)));
        _anyone(t, abi.encodeCall(IComputeEscrow.withdrawCredit, (_provider, rows)));
        _anyone(t, abi.encodeCall(IComputeEscrow.shareFees, (_provider)));
        bytes4 payer = IComputeEscrow.OnlyPayer.selector;
        _only(t, abi.encodeCall(IComputeEscrow.fund, (channel, 1)), payer, CONSUMER);
        _only(t, abi.encodeCall(IComputeEscrow.requestClose, (channel)), payer, CONSUMER);
        _only(t, abi.encodeCall(IComputeEscrow.cancelClose, (channel)), payer, CONSUMER);
        _only(
            t,
            abi.encodeCall(IComputeEscrow.fundWithAllowance, (allowance, "", _provider, 1, 1)),
            IComputeEscrow.OnlySigner.selector,
            SIGNER
        );
        _only(
            t,
            abi.encodeCall(IComputeEscrow.release, (channel, 1)),
            IComputeEscrow.OnlyProvider.selector,
            PROVIDER | OPERATOR
        );
        _only(
            t,
            abi.encodeCall(IComputeEscrow.setPayoutAddress, (_provider, stranger)),
            IComputeEscrow.OnlyPayoutAddress.selector,
            PROVIDER
        );
        bytes4 onlyMarket = IComputeEscrow.OnlyMarket.selector;
        _only(t, abi.encodeCall(IComputeEscrow.lockAvailable, (_consumer, 1)), onlyMarket, MARKET);
        _only(t, abi.encodeCall(IComputeEscrow.unlock, (_consumer, 1)), onlyMarket, MARKET);
        bytes memory pay =
            abi.encodeCall(IComputeEscrow.payProviderFrom, (_consumer, 0, 0, _provider, _provider, 0, _provider, 0));
        _only(t, pay, onlyMarket, MARKET);
        _reads(
            t,
            [
                "accountOf(address)",
                "payeeOf(address)",
                "payoutAddressOf(address)",
                "channelOf(bytes32)",
                "channelIdOf((address,address,address,uint96))",
                "redeemable(address,(uint256,uint128,bytes32,bytes32,bytes32)[])",
                "allowanceOf(address,bytes32)",
                "authorizationNonce(address,bytes32)",
                "channelAuthorizationNonce(bytes32,bytes32)",
                "digestOfVoucher((address,address,uint96,uint128,bytes32))",
                "digestOfChannelAllowance((address,address,uint128,uint64,bytes32,uint256))",
                "token()",
                "market()",
                "staking()",
                "treasury()",
                "protocolFeeBps()",
                "poolShareBps()",
                "closeSeconds()",
                "",
                ""
            ]
        );
    }

    function _stakingRows() private {
        address t = address(staking);
        address[] memory none = new address[](0);
        _anyone(t, abi.encodeCall(IProviderStaking.stake, (1)));
        _anyone(t, abi.encodeCall(IProviderStaking.stakeWithPermit, (1, 0, 0, 0, 0)));
        _anyone(t, abi.encodeCall(IProviderStaking.requestUnbond, (1)));
        _anyone(t, abi.encodeCall(IProviderStaking.withdrawStake, (0, stranger)));
        _anyone(t, abi.encodeCall(IProviderStaking.registerGpus, (0, 0)));
        _anyone(t, abi.encodeCall(IProviderStaking.bindOperatorKey, (stranger, "")));
        _anyone(t, abi.encodeCall(IProviderStaking.delegate, (_provider, UNIT, 0)));
        _anyone(t, abi.encodeCall(IProviderStaking.delegateWithPermit, (_provider, UNIT, 0, 0, 0, 0, 0)));
        _anyone(t, abi.encodeCall(IProviderStaking.requestUndelegate, (_provider, 1, 0)));
        _anyone(t, abi.encodeCall(IProviderStaking.withdrawDelegation, (0, stranger)));
        _anyone(t, abi.encodeCall(IProviderStaking.claimRewards, (_provider, stranger)));
        _anyone(t, abi.encodeCall(IProviderStaking.setCommission, (1)));
        _anyone(t, abi.encodeCall(IProviderStaking.withdrawFees, (_provider)));
        _anyone(t, abi.encodeCall(IProviderStaking.unjail, ()));
        _anyone(t, abi.encodeCall(IProviderStaking.withdrawBounty, (_provider)));
        _anyone(t, abi.encodeCall(IProviderStaking.burnSlashed, ()));
        _only(
            t,
            abi.encodeCall(IProviderStaking.retireOperatorKey, (vm.addr(OPERATOR_KEY))),
            IProviderStaking.OnlyProvider.selector,
            PROVIDER
        );
        _only(t, abi.encodeCall(IProviderStaking.addFees, (_provider, 1)), IProviderStaking.OnlyEscrow.selector, ESCROW);
        bytes4 onlyCourt = IProviderStaking.OnlyCourt.selector;
        _only(t, abi.encodeCall(IProviderStaking.slash, (_provider, 1, 0, none)), onlyCourt, COURT);
        _only(t, abi.encodeCall(IProviderStaking.setSeats, (_provider, 0)), onlyCourt, COURT);
        _reads(
            t,
            [
                "stakeOf(address)",
                "gpusOf(address)",
                "unitsOf(address)",
                "seatsOf(address)",
                "isJailed(address)",
                "jailedUntil(address)",
                "isPunished(bytes32)",
                "unbondRequest(address,uint256)",
                "unbondRequestsOf(address)",
                "hasPool(address)",
                "poolOf(address)",
                "delegationOf(address,address)",
                "undelegateRequest(address,uint256)",
                "undelegateRequestsOf(address)",
                "rewardsOf(address,address)",
                "streamOf(address)",
                "commissionOf(address)",
                "feesOf(address)",
                "bountyOf(address)",
                "unburned()"
            ]
        );
        _reads(
            t,
            [
                "operatorKey(address)",
                "signsFor(address,address)",
                "answersFor(address,address)",
                "digestOfOperatorKey(address,address)",
                "token()",
                "paymentToken()",
                "escrow()",
                "court()",
                "treasury()",
                "unit()",
                "minDelegation()",
                "unbondingSeconds()",
                "retiredKeySeconds()",
                "commissionNoticeSeconds()",
                "jailSeconds()",
                "streamSeconds()",
                "",
                "",
                "",
                ""
            ]
        );
    }

    function _marketRows() private {
        address t = address(market);
        ITaskMarket.TaskTerms memory terms;
        terms.consumer = _consumer;
        ITaskMarket.AcceptedProof memory accepted;
        ITaskMarket.LeasedProof memory leased;
        ITaskMarket.ProvenWork memory work;
        _anyone(t, abi.encodeCall(ITaskMarket.createTask, (terms, "")));
        _anyone(t, abi.encodeCall(ITaskMarket.reclaim, (terms)));
        _anyone(t, abi.encodeCall(ITaskMarket.prove, (accepted)));
        _anyone(t, abi.encodeCall(ITaskMarket.proveOrder, (accepted)));
        _anyone(t, abi.encodeCall(ITaskMarket.proveMany, (new ITaskMarket.AcceptedProof[](0))));
        _anyone(t, abi.encodeCall(ITaskMarket.proveAlone, (leased)));
        _anyone(t, abi.encodeCall(ITaskMarket.finalize, (terms, work, "")));
        _anyone(t, abi.encodeCall(ITaskMarket.endDispute, (terms, work)));
        bytes4 onlyConsumer = ITaskMarket.OnlyConsumer.selector;
        _only(t, abi.encodeCall(ITaskMarket.cancel, (terms)), onlyConsumer, CONSUMER);
        _only(t, abi.encodeCall(ITaskMarket.dispute, (terms, work)), onlyConsumer, CONSUMER);
        bytes memory resolve =
            abi.encodeCall(ITaskMarket.resolve, (terms, work, ITaskMarket.Verdict.Right, new address[](0)));
        _only(t, resolve, ITaskMarket.OnlyCourt.selector, COURT);
        _reading(t, ITaskMarket.chargeOf.selector);
        _reading(t, ITaskMarket.receiptOf.selector);
        _reading(t, ITaskMarket.digestOfTaskTerms.selector);
        _reading(t, ITaskMarket.digestOfReceipt.selector);
        _reads(
            t,
            [
                "taskOf(bytes32)",
                "nonceUsed(address,uint256)",
                "bondOf(uint32,uint128)",
                "digestOfAssignment((bytes32,address,uint64,uint64,uint64))",
                "digestOfAcceptance((bytes32,uint128,bytes32))",
                "escrow()",
                "staking()",
                "court()",
                "cancelSeconds()",
                "minChallengeSeconds()",
                "maxChallengeSeconds()",
                "courtSeconds()",
                "bondFloor()",
                "",
                "",
                "",
                "",
                "",
                "",
                ""
            ]
        );
    }

    function _courtRows() private {
        address t = address(court);
        ITaskMarket.TaskTerms memory terms;
        ITaskMarket.ProvenWork memory work;
        IDisputeCourt.SignedReceipt memory shown;
        bytes32[] memory none = new bytes32[](0);
        _anyone(t, abi.encodeCall(IDisputeCourt.reportTwoHistories, (shown, shown)));
        _anyone(t, abi.encodeCall(IDisputeCourt.reportBrokenChain, (_consumer, _consumer, 0, shown, shown)));
        _anyone(t, abi.encodeCall(IDisputeCourt.reportGpuSoldTwice, (shown, shown, 0, none, none)));
        _anyone(t, abi.encodeCall(IDisputeCourt.takeSeat, ()));
        _anyone(t, abi.encodeCall(IDisputeCourt.listSeat, (_provider)));
        _anyone(t, abi.encodeCall(IDisputeCourt.leaveSeat, ()));
        _anyone(t, abi.encodeCall(IDisputeCourt.freeSeat, (_provider)));
        _anyone(t, abi.encodeCall(IDisputeCourt.dismissSeat, (_provider)));
        _anyone(t, abi.encodeCall(IDisputeCourt.draw, (terms)));
        _anyone(t, abi.encodeCall(IDisputeCourt.reveal, (bytes32(0), _provider, IDisputeCourt.Vote.Right, 0)));
        _anyone(t, abi.encodeCall(IDisputeCourt.conclude, (terms, work)));
        _only(
            t,
            abi.encodeCall(IDisputeCourt.commit, (bytes32(0), _provider, bytes32(uint256(1)))),
            IDisputeCourt.OnlyChecker.selector,
            PROVIDER | OPERATOR
        );
        _only(
            t,
            abi.encodeCall(IDisputeCourt.open, (bytes32(0), terms, _provider)),
            IDisputeCourt.OnlyMarket.selector,
            MARKET
        );
        _reads(
            t,
            [
                "disputeOf(bytes32)",
                "checkersOf(bytes32,uint8)",
                "timesOf(bytes32)",
                "seatOf(address)",
                "seats()",
                "commitmentOf(uint8,bytes32,address,bytes32)",
                "offenceOfRoute(address,bytes32)",
                "offenceOfGpu(address,bytes32,uint64)",
                "offenceOfTask(bytes32)",
                "offenceOfSilence(bytes32,address,uint8)",
                "market()",
                "staking()",
                "commitSeconds()",
                "revealSeconds()",
                "seatSeconds()",
                "",
                "",
                "",
                "",
                ""
            ]
        );
    }

    function _registryRows() private {
        address t = address(registry);
        IAppRegistry.Price memory price;
        bytes4 gate = IAppRegistry.OnlyPublisher.selector;
        _anyone(
            t,
            abi.encodeCall(
                IAppRegistry.publish, (bytes32("s"), bytes32("i"), bytes32("m"), "uri", price, address(0), 0)
            )
        );
        _only(
            t,
            abi.encodeCall(IAppRegistry.addVersion, (_appId, bytes32("i"), bytes32("m"), "uri", price)),
            gate,
            PUBLISHER
        );
        _only(t, abi.encodeCall(IAppRegistry.setPrice, (_appId, 1, price)), gate, PUBLISHER);
        _only(t, abi.encodeCall(IAppRegistry.setDiscount, (_appId, 1, 0, 0)), gate, PUBLISHER);
        _only(t, abi.encodeCall(IAppRegistry.retire, (_appId)), gate, PUBLISHER);
        _only(t, abi.encodeCall(IAppRegistry.renounce, (_appId)), gate, PUBLISHER);
        _reads(
            t,
            [
                "priceAt(bytes32,uint32,uint64)",
                "discountAt(bytes32,uint64)",
                "discountOf(bytes32)",
                "appOf(bytes32)",
                "versionOf(bytes32,uint32)",
                "appIdOf(address,bytes32)",
                "noticeSeconds()",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                "",
                ""
            ]
        );
    }

    // ------------------------------------------------------------------ the table

    function _anyone(address target, bytes memory data) private {
        _only(target, data, 0, 0);
    }

    function _only(address target, bytes memory data, bytes4 gate, uint256 may) private {
        _rows[target][bytes4(data)] = Row(data, gate, may);
    }

    /// @dev What changes nothing is the same for everybody; the compiler says that it changes nothing.
    function _reads(address target, string[20] memory signatures) private {
        for (uint256 i; i < signatures.length; ++i) {
            _reading(target, bytes4(keccak256(bytes(signatures[i]))));
        }
        _reading(target, bytes4(keccak256("domainSeparator()")));
        _reading(target, bytes4(keccak256("eip712Domain()")));
    }

    function _reading(address target, bytes4 selector) private {
        _views[target][selector] = true;
    }
}
