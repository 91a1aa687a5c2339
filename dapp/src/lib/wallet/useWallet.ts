import { useMemo, useSyncExternalStore } from 'react';
import { createPublicClient, createWalletClient, custom, defineChain, type Address } from 'viem';
import { useDeployment } from '~/lib/deployment';
import { walletStore, type WalletState } from './store';

export function useWallet(): WalletState {
  return useSyncExternalStore(walletStore.subscribe, walletStore.get);
}

/** Everything needed to read and write the chain as the connected account, on the right chain. */
export function useSigner(): Signer | null {
  const { connected, address, chainId } = useWallet();
  const deployment = useDeployment().data;
  return useMemo(() => {
    if (connected === null || address === null || deployment === undefined) return null;
    if (chainId !== deployment.chainId) return null;
    return makeSigner(connected.provider, address, deployment.chainId);
  }, [connected, address, chainId, deployment]);
}

export type Signer = ReturnType<typeof makeSigner>;

export function makeSigner(provider: Parameters<typeof custom>[0], address: Address, chainId: number) {
  const chain = defineChain({
    id: chainId,
    name: `Chain ${chainId}`,
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
    rpcUrls: { default: { http: [] } },
  });
  const transport = custom(provider, { retryCount: 0 });
  return {
    address,
    chain,
    reader: createPublicClient({ chain, transport, pollingInterval: 500, cacheTime: 0 }),
    writer: createWalletClient({ chain, transport, account: address }),
  };
}
