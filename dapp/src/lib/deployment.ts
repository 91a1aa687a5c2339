// Where the contracts are and what the token is: asked once, shared by everything.

import { useQuery } from '@tanstack/react-query';
import { getAddress, type Address } from 'viem';
import { ask, client, type Schemas } from './api';
import type { Token } from './money';

export interface Deployment {
  chainId: number;
  networkName: string;
  rpcUrl: string | null;
  /** Where transactions can be looked up; none on a chain of one's own. */
  explorerUrl: string | null;
  token: Address;
  payment: Token;
  stakingToken: Token;
  stakingTokenAddress: Address;
  escrow: Address;
  market: Address;
  staking: Address;
  registry: Address;
  dispatcher: Address;
  dispatcherBps: number;
  stakeUnit: bigint;
  challengeWindowSeconds: number;
  /** From the announcement of an app's price, or of its end, until that holds. */
  noticeSeconds: number;
  protocolFeeBps: number;
  unbondingSeconds: number;
  jailSeconds: number;
  commissionNoticeSeconds: number;
}

export function readDeployment(body: Schemas['ConfigBody']): Deployment {
  return {
    chainId: body.chain_id,
    networkName: body.network_name === '' ? `Chain ${body.chain_id}` : body.network_name,
    rpcUrl: body.rpc_url === '' ? null : body.rpc_url,
    explorerUrl: body.explorer_url === '' ? null : body.explorer_url.replace(/\/$/, ''),
    token: getAddress(body.token.address),
    payment: { symbol: body.token.symbol, decimals: body.token.decimals },
    stakingToken: { symbol: body.staking_token.symbol, decimals: body.staking_token.decimals },
    stakingTokenAddress: getAddress(body.staking_token.address),
    escrow: getAddress(body.escrow),
    market: getAddress(body.market),
    staking: getAddress(body.staking),
    registry: getAddress(body.registry),
    dispatcher: getAddress(body.dispatcher),
    dispatcherBps: body.dispatcher_bps,
    stakeUnit: BigInt(body.stake_unit),
    challengeWindowSeconds: body.challenge_window_seconds,
    noticeSeconds: body.notice_seconds,
    protocolFeeBps: body.protocol_fee_bps,
    unbondingSeconds: body.unbonding_seconds,
    jailSeconds: body.jail_seconds,
    commissionNoticeSeconds: body.commission_notice_seconds,
  };
}

export function useDeployment() {
  return useQuery({
    queryKey: ['deployment'],
    queryFn: async () => readDeployment(await ask(client.GET('/v1/config'))),
    staleTime: Infinity,
    retry: true,
    retryDelay: 2_000,
  });
}

const NO_TOKEN: Token = { symbol: '', decimals: 18 };

export function useToken(): Token {
  return useDeployment().data?.payment ?? NO_TOKEN;
}

export function useStakingToken(): Token {
  return useDeployment().data?.stakingToken ?? NO_TOKEN;
}

/** The chain's own coin, in which gas is paid: wallets are told the same name. */
export const COIN: Token = { symbol: 'ETH', decimals: 18 };
