/** The part of node-gyp-build 4 that is used: it comes without types. */
declare module 'node-gyp-build' {
  /**
   * Loads the addon of a folder: `build/Release/*.node`, what was compiled here, else the one of
   * `prebuilds/<platform>-<arch>/` that fits. Throws an Error when there is none, or it cannot be loaded.
   */
  export default function load(folder: string): unknown
}
