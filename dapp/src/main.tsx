import './styles/tokens.css';
import './styles/base.css';
import './styles/parts.css';
import { QueryCache, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { RouterProvider } from '@tanstack/react-router';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { router } from '~/app/router';
import { ToastProvider } from '~/components/toasts';
import { ApiProblem } from '~/lib/api';
import { LanguageProvider } from '~/lib/i18n';
import { walletStore } from '~/lib/wallet/store';

const queries = new QueryClient({
  queryCache: new QueryCache(),
  defaultOptions: {
    queries: {
      // A refusal stays one; a backend that restarts is asked again until it is there.
      retry: (count, fault) => !(fault instanceof ApiProblem && fault.status < 500) && count < 4,
      retryDelay: (count) => Math.min(4_000, 500 * 2 ** count),
      staleTime: 2_000,
      refetchOnWindowFocus: true,
    },
  },
});

walletStore.start(window);

const root = document.getElementById('root');
if (root === null) throw new Error('The page has no #root.');
createRoot(root).render(
  <StrictMode>
    <QueryClientProvider client={queries}>
      <LanguageProvider>
        <ToastProvider>
          <RouterProvider router={router} />
        </ToastProvider>
      </LanguageProvider>
    </QueryClientProvider>
  </StrictMode>,
);
