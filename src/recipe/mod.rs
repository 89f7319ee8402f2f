//! Recipes: how an application is installed natively. Data in, resources out; pure.
