// One catalogue, two languages. `t('money.deposit', { amount })` is checked by the compiler: the key has to
// exist, and the values have to be the ones its English sentence names.

import { createContext, use, useCallback, useEffect, useMemo, useState, type ReactNode } from 'react';
import { en } from '~/messages/en';
import { readPreference, writePreference } from './preferences';

export type Language = 'en' | 'zh';
export type MessageKey = keyof typeof en;
export type Catalogue = Record<MessageKey, string>;

type Names<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Names<Rest>
  : never;
export type Values<Key extends MessageKey> = Record<Names<(typeof en)[Key]>, string | number>;
type Rest<Key extends MessageKey> = Names<(typeof en)[Key]> extends never ? [] : [Values<Key>];

export type Translate = <Key extends MessageKey>(key: Key, ...values: Rest<Key>) => string;

export function fill(text: string, values: Record<string, string | number> | undefined): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values?.[name];
    return value === undefined ? whole : String(value);
  });
}

export function translator(catalogue: Catalogue): Translate {
  return (key, ...values) => fill(catalogue[key], values[0]);
}

interface Languages {
  language: Language;
  setLanguage: (language: Language) => void;
  t: Translate;
}

const Context = createContext<Languages>({ language: 'en', setLanguage: () => undefined, t: translator(en) });

export function LanguageProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState<Language>('en');
  const [catalogue, setCatalogue] = useState<Catalogue>(en);
  const choose = useCallback(async (wanted: Language) => {
    const found = wanted === 'en' ? en : (await import('~/messages/zh')).zh;
    document.documentElement.lang = wanted === 'en' ? 'en' : 'zh-CN';
    setCatalogue(found);
    setLanguage(wanted);
  }, []);
  useEffect(() => {
    void choose(preferredLanguage());
  }, [choose]);
  const value = useMemo<Languages>(
    () => ({
      language,
      t: translator(catalogue),
      setLanguage: (wanted) => {
        writePreference('language', wanted);
        void choose(wanted);
      },
    }),
    [language, catalogue, choose],
  );
  return <Context value={value}>{children}</Context>;
}

export function useLanguage(): Languages {
  return use(Context);
}

export function useT(): Translate {
  return use(Context).t;
}

function preferredLanguage(): Language {
  const kept = readPreference('language');
  if (kept === 'en' || kept === 'zh') return kept;
  return navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}
