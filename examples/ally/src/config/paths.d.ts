// Stands for Ally's own module.

/** The folder of the active profile's plugin environments. */
export declare function getPluginEnvsDir(): string;
