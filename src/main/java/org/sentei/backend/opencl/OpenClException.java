package org.sentei.backend.opencl;

import org.lwjgl.opencl.CL10;
import org.sentei.kernel.DeviceException;

/** Turns OpenCL's codes into a {@link DeviceException}. */
final class OpenClException {
    private OpenClException() {}

    /** Fails unless the code says success. */
    static void check(String call, int code) {
        if (code != CL10.CL_SUCCESS) {
            throw of(call, code);
        }
    }

    static DeviceException of(String call, int code) {
        DeviceException.Kind kind = kind(call, code);
        return new DeviceException(OpenClProvider.NAME, call, code, symbol(code) + remedy(kind), kind);
    }

    private static DeviceException.Kind kind(String call, int code) {
        return switch (code) {
            case -4, -6, -61 -> DeviceException.Kind.OUT_OF_MEMORY;
            // What a driver says when a buffer does not fit, and when a kernel went astray.
            case -5 ->
                call.startsWith("clCreateBuffer") ? DeviceException.Kind.OUT_OF_MEMORY : DeviceException.Kind.LAUNCH;
            case -3, -11, -15, -17, -42, -43, -44, -45, -46, -47 -> DeviceException.Kind.COMPILE;
            case -2, -36 -> DeviceException.Kind.LOST;
            case -14, -48, -49, -50, -51, -52, -53, -54, -55, -56, -63, -9999 -> DeviceException.Kind.LAUNCH;
            default -> DeviceException.Kind.INTERNAL;
        };
    }

    private static String remedy(DeviceException.Kind kind) {
        return switch (kind) {
            case OUT_OF_MEMORY -> "; use a smaller batch, or a device with more memory";
            case LOST -> "; the device is gone: start again, and look at the driver's log";
            case UNSUPPORTED, COMPILE, LAUNCH, INTERNAL ->
                "; check the driver with sentei doctor --backend " + OpenClProvider.NAME;
        };
    }

    /** The name of a code in the OpenCL headers. */
    private static String symbol(int code) {
        return switch (code) {
            case -1 -> "CL_DEVICE_NOT_FOUND";
            case -2 -> "CL_DEVICE_NOT_AVAILABLE";
            case -3 -> "CL_COMPILER_NOT_AVAILABLE";
            case -4 -> "CL_MEM_OBJECT_ALLOCATION_FAILURE";
            case -5 -> "CL_OUT_OF_RESOURCES";
            case -6 -> "CL_OUT_OF_HOST_MEMORY";
            case -11 -> "CL_BUILD_PROGRAM_FAILURE";
            case -12 -> "CL_MAP_FAILURE";
            case -13 -> "CL_MISALIGNED_SUB_BUFFER_OFFSET";
            case -14 -> "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST";
            case -15 -> "CL_COMPILE_PROGRAM_FAILURE";
            case -17 -> "CL_LINK_PROGRAM_FAILURE";
            case -30 -> "CL_INVALID_VALUE";
            case -31 -> "CL_INVALID_DEVICE_TYPE";
            case -32 -> "CL_INVALID_PLATFORM";
            case -33 -> "CL_INVALID_DEVICE";
            case -34 -> "CL_INVALID_CONTEXT";
            case -35 -> "CL_INVALID_QUEUE_PROPERTIES";
            case -36 -> "CL_INVALID_COMMAND_QUEUE";
            case -37 -> "CL_INVALID_HOST_PTR";
            case -38 -> "CL_INVALID_MEM_OBJECT";
            case -42 -> "CL_INVALID_BINARY";
            case -43 -> "CL_INVALID_BUILD_OPTIONS";
            case -44 -> "CL_INVALID_PROGRAM";
            case -45 -> "CL_INVALID_PROGRAM_EXECUTABLE";
            case -46 -> "CL_INVALID_KERNEL_NAME";
            case -47 -> "CL_INVALID_KERNEL_DEFINITION";
            case -48 -> "CL_INVALID_KERNEL";
            case -49 -> "CL_INVALID_ARG_INDEX";
            case -50 -> "CL_INVALID_ARG_VALUE";
            case -51 -> "CL_INVALID_ARG_SIZE";
            case -52 -> "CL_INVALID_KERNEL_ARGS";
            case -53 -> "CL_INVALID_WORK_DIMENSION";
            case -54 -> "CL_INVALID_WORK_GROUP_SIZE";
            case -55 -> "CL_INVALID_WORK_ITEM_SIZE";
            case -56 -> "CL_INVALID_GLOBAL_OFFSET";
            case -57 -> "CL_INVALID_EVENT_WAIT_LIST";
            case -58 -> "CL_INVALID_EVENT";
            case -59 -> "CL_INVALID_OPERATION";
            case -61 -> "CL_INVALID_BUFFER_SIZE";
            case -63 -> "CL_INVALID_GLOBAL_WORK_SIZE";
            case -1001 -> "CL_PLATFORM_NOT_FOUND_KHR";
            case -9999 -> "an illegal access by a kernel";
            default -> "a code that the OpenCL headers do not name";
        };
    }
}
