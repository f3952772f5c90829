/**
 * Where the files lie that go with the code. The programs are few files, each made of many modules (scripts/setup/bundle.mjs), where a module
 * does not lie beside its neighbours any more: only this one may say where it is. It is two folders below dist/, alone and in a bundle.
 */

/** dist/, with what the build makes. */
export const BUILD_FOLDER = new URL('../../', import.meta.url)

/** The top of a checkout, and of the installed package. */
export const PACKAGE_FOLDER = new URL('../', BUILD_FOLDER)
