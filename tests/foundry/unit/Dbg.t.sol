// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;
import {Handler} from "../acts/Handler.sol";
contract Dbg is Handler {
    function testDraw() external {
        this.court_draw(3);
    }
    function testCommit() external {
        this.court_commit(3);
    }
    function testReveal() external {
        this.court_reveal(3);
    }
    function testClaim() external { this.staking_delegate(9 , 1); this.staking_claimRewards(3); }
    function testFin() external { this.market_finalize(3); }
}
