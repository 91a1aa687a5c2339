import js from '@eslint/js';
import hooks from 'eslint-plugin-react-hooks';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist', 'src/generated', 'node_modules'] },
  js.configs.recommended,
  {
    files: ['**/*.{ts,tsx}'],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    plugins: { 'react-hooks': hooks },
    rules: {
      'react-hooks/rules-of-hooks': 'error',
      'react-hooks/exhaustive-deps': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allow: [{ name: 'bigint', from: 'lib' }] },
      ],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      // Strings from the chain are text: nothing is ever put into the page as markup.
      'no-restricted-syntax': [
        'error',
        {
          selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']",
          message: 'Text only: strings from the chain are never markup.',
        },
        {
          selector: "JSXAttribute[name.name='style']",
          message: 'Use a class, or a custom property set through a ref: no inline styles.',
        },
      ],
      'no-restricted-globals': [
        'error',
        { name: 'sessionStorage', message: 'No secrets in storage.' },
        { name: 'localStorage', message: 'Use lib/preferences.ts, which holds no secrets.' },
      ],
    },
  },
  // Playwright's fixtures are handed on with a function called `use`, which is no hook.
  { files: ['test/**/*.ts'], rules: { 'react-hooks/rules-of-hooks': 'off' } },
  {
    files: ['tools/*.js'],
    languageOptions: { globals: { process: 'readonly', console: 'readonly', URL: 'readonly' } },
  },
);
