"""The gRPC edge: conversion between protobuf and the domain, validation, errors."""
