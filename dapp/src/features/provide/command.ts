// The command that turns a machine into a provider, word for word as it is run.

import type { Address } from 'viem';

export interface Offer {
  gpuClass: string;
  /** Smallest unit per GPU-second. */
  rate: bigint;
  cards: 'nvml' | 'simulated';
  /** How many, when they are simulated: real ones are counted by the agent. */
  count: number;
  runtime: 'docker' | 'process';
}

/** A class is a name of its own; a card's class is found by its model, or set on the agent. */
export const CLASS_NAME = /^[a-z0-9-]{1,32}$/;

export function joinCommand(origin: string, provider: Address, offer: Offer): string {
  const words = [
    `tallystick-provider join ${origin}`,
    `--provider ${provider}`,
    `--rate ${offer.gpuClass}=${offer.rate.toString()}`,
  ];
  if (offer.cards === 'simulated')
    words.push(`--gpus simulated:${offer.count.toString()}x${offer.gpuClass}:24576`);
  if (offer.runtime === 'process') words.push('--runtime process');
  return words.join(' \\\n  ');
}
