import tseslint from 'typescript-eslint'

/** What only one folder may know (docs/decisions): the command line's surroundings. */
const SURROUNDINGS = ['env', 'argv'].map((property) => ({
  object: 'process',
  property,
  message: 'the environment and the arguments are read in src/main only',
}))

/** In a bundle it is another (scripts/setup/bundle.mjs). */
const PLACES = { selector: 'MetaProperty', message: 'where files lie is known to src/base/places.ts only' }

export default tseslint.config(
  { ignores: ['dist/**', 'node_modules/**', '.tap/**', 'mnt/**', 'ringfs-data/**', 'build/**', '**/*.generated.*'] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      eqeqeq: ['error', 'always', { null: 'ignore' }],
      'no-console': 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      'object-shorthand': 'error',
      'max-lines': ['error', { max: 500 }],
      'max-lines-per-function': ['error', { max: 90, skipBlankLines: true, skipComments: true }],
      'max-params': ['error', { max: 7 }],
      complexity: ['error', { max: 20 }],
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      // Conflicts with noPropertyAccessFromIndexSignature and says little.
      '@typescript-eslint/dot-notation': 'off',
      // tap's and a constructor's fields: a class without methods is a fair shape for a double.
      '@typescript-eslint/no-extraneous-class': 'off',
      // `async` on a method says that it keeps a contract whose method is async.
      '@typescript-eslint/require-await': 'off',
      // A type assertion through unknown or from `any` is not a way out either.
      '@typescript-eslint/no-unsafe-type-assertion': 'off',
      // The contract's optional parameter of one implementation is another's required one.
      '@typescript-eslint/unified-signatures': 'off',
    },
  },
  {
    files: ['src/**/*.ts', 'workers/**/*.ts'],
    ignores: ['src/base/places.ts'],
    rules: { 'no-restricted-syntax': ['error', PLACES] },
  },
  {
    files: ['src/**/*.ts', 'workers/**/*.ts'],
    ignores: ['src/main/**'],
    rules: { 'no-restricted-properties': ['error', ...SURROUNDINGS] },
  },
  { files: ['src/cli/**/*.ts', 'src/main/**/*.ts', 'bench/**/*.ts'], rules: { 'no-console': 'off' } },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      // A suite is one function of many tests; tap's calls answer promises that the parent waits for.
      'max-lines-per-function': 'off',
      'max-lines': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafePromises: [{ from: 'package', package: '@tapjs/core', name: 'PromiseWithSubtest' }],
          ignoreVoid: true,
        },
      ],
      '@typescript-eslint/no-confusing-void-expression': 'off',
    },
  },
)
