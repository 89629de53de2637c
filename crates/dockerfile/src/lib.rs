//! From the text of a Dockerfile to a graph: lexer, instructions, expansion, stages, lowering
