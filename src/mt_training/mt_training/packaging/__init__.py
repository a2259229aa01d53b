"""What a package of models holds besides the models: a script that runs them, and how to use it."""
