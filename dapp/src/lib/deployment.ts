// Where the contracts are and what the token is: asked once, shared by everything.

import { useQuery } from '@tanstack/react-query';
import { getAddress, type Address } from 'viem';
import { ask, client, type Schemas } from './api';
import type { Token } from './money';

export interface Deployment {
  chainId: number;
  networkName: string;
  rpcUrl: string | null;
  token: Address;
  payment: Token;
  escrow: Address;
  market: Address;
  staking: Address;
  dispatcher: Address;
  dispatcherBps: number;
  stakeUnit: bigint;
  challengeWindowSeconds: number;
}

type Body = Schemas['DeploymentBody'] & { network_name?: string | null; rpc_url?: string | null };

export function readDeployment(body: Body): Deployment {
  return {
    chainId: body.chain_id,
    networkName: body.network_name ?? KNOWN_CHAINS[body.chain_id] ?? `Chain ${body.chain_id}`,
    rpcUrl: body.rpc_url ?? null,
    token: getAddress(body.token),
    payment: { symbol: body.token_symbol, decimals: body.token_decimals },
    escrow: getAddress(body.escrow),
    market: getAddress(body.market),
    staking: getAddress(body.staking),
    dispatcher: getAddress(body.dispatcher),
    dispatcherBps: body.dispatcher_bps,
    stakeUnit: BigInt(body.stake_unit),
    challengeWindowSeconds: body.challenge_window_seconds,
  };
}

const KNOWN_CHAINS: Record<number, string> = { 1: 'Ethereum', 31337: 'Local chain (anvil)' };

export function useDeployment() {
  return useQuery({
    queryKey: ['deployment'],
    queryFn: async () => readDeployment(await ask(client.GET('/v1/deployment'))),
    staleTime: Infinity,
    retry: true,
    retryDelay: 2_000,
  });
}

const NO_TOKEN: Token = { symbol: '', decimals: 18 };

export function useToken(): Token {
  return useDeployment().data?.payment ?? NO_TOKEN;
}
