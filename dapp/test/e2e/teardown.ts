import { stop } from './market';

export default function teardown(): void {
  stop();
}
