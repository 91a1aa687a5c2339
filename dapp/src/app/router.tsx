// Every page is a chunk of its own, fetched when it is gone to (or nearly: a link under the pointer preloads).

import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  redirect,
} from '@tanstack/react-router';
import { isAddress } from 'viem';
import { NotFoundPage, PageFault, Shell } from './shell';

const root = createRootRoute({
  component: Shell,
  notFoundComponent: NotFoundPage,
  errorComponent: PageFault,
});

const home = createRoute({
  getParentRoute: () => root,
  path: '/',
  component: lazyRouteComponent(() => import('~/features/home/HomePage'), 'HomePage'),
});
const market = createRoute({
  getParentRoute: () => root,
  path: '/market',
  component: lazyRouteComponent(() => import('~/features/market/MarketPage'), 'MarketPage'),
});
const provider = createRoute({
  getParentRoute: () => root,
  path: '/providers/$address',
  component: lazyRouteComponent(() => import('~/features/market/ProviderPage'), 'ProviderPage'),
});
const money = createRoute({
  getParentRoute: () => root,
  path: '/money',
  component: lazyRouteComponent(() => import('~/features/money/MoneyPage'), 'MoneyPage'),
});

const tasks = createRoute({
  getParentRoute: () => root,
  path: '/tasks',
  component: lazyRouteComponent(() => import('~/features/tasks/TasksPage'), 'TasksPage'),
});
const newTask = createRoute({
  getParentRoute: () => root,
  path: '/tasks/new',
  // The task whose order the form begins with.
  validateSearch: (search: Record<string, unknown>): { again?: string } =>
    isHash(search['again']) ? { again: search['again'] } : {},
  component: lazyRouteComponent(() => import('~/features/newtask/NewTaskPage'), 'NewTaskPage'),
});
const task = createRoute({
  getParentRoute: () => root,
  path: '/tasks/$id',
  component: lazyRouteComponent(() => import('~/features/tasks/TaskPage'), 'TaskPage'),
});
const apps = createRoute({
  getParentRoute: () => root,
  path: '/apps',
  component: lazyRouteComponent(() => import('~/features/apps/AppsPage'), 'AppsPage'),
});
const newApp = createRoute({
  getParentRoute: () => root,
  path: '/apps/new',
  // The app that the form begins with: the same app for its publisher, a template for everybody else.
  validateSearch: (search: Record<string, unknown>): { from?: string } =>
    isHash(search['from']) ? { from: search['from'] } : {},
  component: lazyRouteComponent(() => import('~/features/deploy/DeployPage'), 'DeployPage'),
});
const app = createRoute({
  getParentRoute: () => root,
  path: '/apps/$id',
  component: lazyRouteComponent(() => import('~/features/apps/AppPage'), 'AppPage'),
});
const costs = createRoute({
  getParentRoute: () => root,
  path: '/costs',
  component: lazyRouteComponent(() => import('~/features/costs/CostsPage'), 'CostsPage'),
});
const keys = createRoute({
  getParentRoute: () => root,
  path: '/keys',
  component: lazyRouteComponent(() => import('~/features/keys/KeysPage'), 'KeysPage'),
});
const explorer = createRoute({
  getParentRoute: () => root,
  path: '/explorer',
  validateSearch: (search: Record<string, unknown>): { address?: string } =>
    typeof search['address'] === 'string' && isAddress(search['address'], { strict: false })
      ? { address: search['address'] }
      : {},
  component: lazyRouteComponent(() => import('~/features/explorer/ExplorerPage'), 'ExplorerPage'),
});
const transaction = createRoute({
  getParentRoute: () => root,
  path: '/explorer/tx/$hash',
  component: lazyRouteComponent(() => import('~/features/explorer/TransactionPage'), 'TransactionPage'),
});

function isHash(value: unknown): value is string {
  return typeof value === 'string' && /^0x[0-9a-f]{64}$/.test(value);
}

const provide = createRoute({
  getParentRoute: () => root,
  path: '/provide',
  component: lazyRouteComponent(() => import('~/features/provide/ProvidePage'), 'ProvidePage'),
});
/** What people try first. */
const providerStart = createRoute({
  getParentRoute: () => root,
  path: '/provider',
  beforeLoad: () => {
    // eslint-disable-next-line @typescript-eslint/only-throw-error -- the router takes a redirect this way
    throw redirect({ to: '/provide' });
  },
});
const provideGpus = createRoute({
  getParentRoute: () => root,
  path: '/provide/gpus',
  component: lazyRouteComponent(() => import('~/features/provide/GpusPage'), 'GpusPage'),
});
const provideTasks = createRoute({
  getParentRoute: () => root,
  path: '/provide/tasks',
  component: lazyRouteComponent(() => import('~/features/provide/ServedPage'), 'ServedPage'),
});
const provideEarnings = createRoute({
  getParentRoute: () => root,
  path: '/provide/earnings',
  component: lazyRouteComponent(() => import('~/features/provide/EarningsPage'), 'EarningsPage'),
});
const provideStake = createRoute({
  getParentRoute: () => root,
  path: '/provide/stake',
  component: lazyRouteComponent(() => import('~/features/provide/StakePage'), 'StakePage'),
});
const delegation = createRoute({
  getParentRoute: () => root,
  path: '/delegate',
  component: lazyRouteComponent(() => import('~/features/delegation/DelegatePage'), 'DelegatePage'),
});

const routes = root.addChildren([
  home,
  market,
  provider,
  money,
  tasks,
  newTask,
  task,
  apps,
  newApp,
  app,
  costs,
  keys,
  explorer,
  transaction,
  provide,
  providerStart,
  provideGpus,
  provideTasks,
  provideEarnings,
  provideStake,
  delegation,
]);

export const router = createRouter({
  routeTree: routes,
  defaultPreload: 'intent',
  scrollRestoration: true,
  defaultErrorComponent: PageFault,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
