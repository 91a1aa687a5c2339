import { createContext, use, useCallback, useMemo, useState, type ReactNode } from 'react';
import { useT } from '~/lib/i18n';
import { Icon } from './icons';

interface Toast {
  id: number;
  text: string;
}

const Context = createContext<(text: string) => void>(() => undefined);
const SHOWN_MS = 8_000;
let count = 0;

export function ToastProvider({ children }: { children: ReactNode }) {
  const t = useT();
  const [toasts, setToasts] = useState<readonly Toast[]>([]);
  const dismiss = useCallback((id: number) => setToasts((all) => all.filter((one) => one.id !== id)), []);
  const say = useMemo(
    () => (text: string) => {
      count += 1;
      const id = count;
      setToasts((all) => [...all.slice(-2), { id, text }]);
      setTimeout(() => dismiss(id), SHOWN_MS);
    },
    [dismiss],
  );
  return (
    <Context value={say}>
      {children}
      <div className="toasts" role="status" aria-live="polite">
        {toasts.map((toast) => (
          <div key={toast.id} className="toast">
            <span>{toast.text}</span>
            <button type="button" className="copy" onClick={() => dismiss(toast.id)} aria-label={t('close')}>
              <Icon name="close" />
            </button>
          </div>
        ))}
      </div>
    </Context>
  );
}

export function useToast(): (text: string) => void {
  return use(Context);
}
