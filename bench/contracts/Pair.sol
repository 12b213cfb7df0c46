// SPDX-License-Identifier: MIT
pragma solidity ^0.8.30;

interface IToken {
    function balanceOf(address holder) external view returns (uint256);
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// A constant-product exchange in one call: pulls a token, prices it with a 0.3 % fee, pushes the other, checks the invariant.
contract Pair {
    IToken public token0;
    IToken public token1;
    uint112 public reserve0;
    uint112 public reserve1;
    uint256 private unlocked = 1;

    error Locked();
    error TooLittle(uint256 out, uint256 least);
    error Invariant();

    event Swap(address indexed sender, uint256 amountIn, uint256 amountOut, bool zeroForOne, address indexed to);
    event Sync(uint112 reserve0, uint112 reserve1);

    modifier lock() {
        if (unlocked != 1) revert Locked();
        unlocked = 2;
        _;
        unlocked = 1;
    }

    function initialize(address first, address second) external {
        token0 = IToken(first);
        token1 = IToken(second);
        unlocked = 1;
    }

    function sync() external lock {
        _update(token0.balanceOf(address(this)), token1.balanceOf(address(this)));
    }

    function swap(uint256 amountIn, uint256 least, bool zeroForOne, address to) external lock returns (uint256 out) {
        (uint256 reserveIn, uint256 reserveOut) = zeroForOne ? (reserve0, reserve1) : (reserve1, reserve0);
        (IToken tokenIn, IToken tokenOut) = zeroForOne ? (token0, token1) : (token1, token0);
        tokenIn.transferFrom(msg.sender, address(this), amountIn);
        uint256 withFee = amountIn * 997;
        out = (withFee * reserveOut) / (reserveIn * 1000 + withFee);
        if (out < least) revert TooLittle(out, least);
        tokenOut.transfer(to, out);
        uint256 balance0 = token0.balanceOf(address(this));
        uint256 balance1 = token1.balanceOf(address(this));
        if (balance0 * balance1 < uint256(reserve0) * reserve1) revert Invariant();
        _update(balance0, balance1);
        emit Swap(msg.sender, amountIn, out, zeroForOne, to);
    }

    function _update(uint256 balance0, uint256 balance1) internal {
        reserve0 = uint112(balance0);
        reserve1 = uint112(balance1);
        emit Sync(reserve0, reserve1);
    }
}
