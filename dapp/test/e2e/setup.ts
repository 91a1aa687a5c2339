import { start } from './market';

export default function setup(): void {
  start();
}
